// Command load makes registry traffic and prints what it measured as one JSON object.
//
//	load get    -base URL -path /v2/…          the same GET over and over, for a time or a count
//	load head   -base URL -path /v2/…          the same with HEAD
//	load pull   -base URL -path /v2/…/blobs/…  a large blob, -rounds times on each connection
//	load push   -base URL -prefix NAME         small images: blobs, config, manifest
//	load upload -base URL -prefix NAME         large blobs: POST, PATCH, PUT
//	load seed   -base URL -kind image|tags|repositories …
//
// Requests are serialised once and written raw on keep-alive connections; answers go through a minimal parser, so that
// the client takes as little of the machine as it can. The loop is closed: a connection sends its next request when the
// answer to the last has been read whole. With -user, a Bearer token is had from the realm that `GET /v2/` names (the
// password comes from LOAD_PASSWORD), sent with every request and renewed before it ends. Any unexpected answer ends
// the run with a message: a figure with errors in it is no figure.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

type command struct {
	summary string
	run     func(arguments []string) (any, error)
}

func main() {
	commands := map[string]command{
		"get":    {"repeat one GET", func(a []string) (any, error) { return runRead("get", a) }},
		"head":   {"repeat one HEAD", func(a []string) (any, error) { return runRead("head", a) }},
		"pull":   {"pull one large blob", func(a []string) (any, error) { return runRead("pull", a) }},
		"push":   {"push small images", runPush},
		"upload": {"push large blobs", runUpload},
		"seed":   {"put an image, many tags or many repositories there", runSeed},
	}
	if len(os.Args) < 2 || commands[os.Args[1]].run == nil {
		fmt.Fprintln(os.Stderr, "usage: load get|head|pull|push|upload|seed [flags]; load SUBCOMMAND -h explains the flags")
		os.Exit(2)
	}
	result, err := commands[os.Args[1]].run(os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "load "+os.Args[1]+": "+strings.TrimSpace(err.Error()))
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		os.Exit(1)
	}
}
