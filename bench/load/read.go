package main

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// runRead repeats one GET or HEAD on every connection, for a time (-seconds) or a number of rounds (-rounds).
func runRead(name string, arguments []string) (any, error) {
	flags := flag.NewFlagSet(name, flag.ExitOnError)
	base, user, basic := targetFlags(flags)
	path := flags.String("path", "", "what to read, from /v2/ on")
	scope := flags.String("scope", "", "token scopes, separated by blanks, as repository:a/b:pull")
	accept := flags.String("accept", "", "Accept header")
	connections := flags.Int("connections", 8, "connections at once")
	seconds := flags.Float64("seconds", 5, "measure for this long")
	warm := flags.Float64("warm", 1, "read for this long before measuring")
	rounds := flags.Int("rounds", 0, "instead of -seconds: this many reads per connection")
	status := flags.Int("status", 200, "the status that every answer must have")
	vary := flags.Bool("vary", false, "give each request an X-Request-Id of its own, so that no two are alike")
	_ = flags.Parse(arguments)

	registry, err := newTarget(*base, *user, *basic)
	if err != nil {
		return nil, err
	}
	reader := &repeatedRead{method: "GET", connections: *connections, address: registry.base.Host, status: *status}
	if name == "head" {
		reader.method = "HEAD"
	}
	var headers []string
	if *accept != "" {
		headers = append(headers, "Accept: "+*accept)
	}
	if *vary {
		headers = append(headers, "X-Request-Id: "+idPlace)
	}
	login := registry.credential(strings.Fields(*scope)...)
	if reader.request, err = registry.request(login, reader.method, *path, nil, headers...); err != nil {
		return nil, err
	}
	if *vary {
		reader.idAt = bytes.Index(reader.request, []byte(idPlace))
	}
	if err := reader.check(*path); err != nil {
		return nil, err
	}
	if *rounds > 0 {
		result, err := reader.measure(0, *rounds)
		result.WarmCount = 1 // the check
		return result, err
	}
	before, err := reader.measure(time.Duration(*warm*float64(time.Second)), 0)
	if err != nil {
		return nil, err
	}
	result, err := reader.measure(time.Duration(*seconds*float64(time.Second)), 0)
	result.WarmCount = before.Count
	return result, err
}

type repeatedRead struct {
	method      string
	address     string
	request     []byte
	connections int
	status      int
	length      int64 // body bytes that every answer must announce
	idAt        int   // where a request's own id stands in it; 0: it has none
}

// Where each request writes its own id: the connection, then a count.
const idPlace = "0000000000000000"

// check does the read once and compares the body with the digest that the answer names.
func (r *repeatedRead) check(path string) error {
	probe := newConnection(r.address)
	probe.hash = sha256.New()
	defer probe.shut()
	first, err := probe.exchange(r.request, r.method == "HEAD")
	if err != nil {
		return err
	}
	if err := first.expect(r.method+" "+path, r.status); err != nil {
		return err
	}
	r.length = first.length
	got := fmt.Sprintf("sha256:%x", probe.hash.Sum(nil))
	if r.method == "GET" && strings.HasPrefix(first.digest, "sha256:") && first.digest != got {
		return fmt.Errorf("GET %s: the body's digest is %s, the answer says %s", path, got, first.digest)
	}
	return nil
}

func digestOf(content []byte) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256(content))
}

func (r *repeatedRead) measure(duration time.Duration, rounds int) (measurement, error) {
	latencies := make([][]time.Duration, r.connections)
	lines := make([]*connection, r.connections)
	for i := range lines {
		lines[i] = newConnection(r.address)
		defer lines[i].shut()
		if err := lines[i].open(); err != nil {
			return measurement{}, err
		}
	}
	var over atomic.Bool
	if rounds == 0 {
		defer time.AfterFunc(duration, func() { over.Store(true) }).Stop()
	}
	watch := startWatch()
	err := together(r.connections, func(worker int) error {
		line, own := lines[worker], make([]time.Duration, 0, 1<<16)
		request := bytes.Clone(r.request)
		began := time.Now()
		for done := 0; (rounds == 0 || done < rounds) && !over.Load(); done++ {
			if r.idAt > 0 {
				copy(request[r.idAt:], fmt.Sprintf("%02x%014x", worker, began.UnixNano()&(1<<56-1)))
			}
			result, err := line.exchange(request, r.method == "HEAD")
			if err != nil {
				return err
			}
			if result.status != r.status || result.length != r.length {
				return fmt.Errorf("answered %d with %d bytes, not %d with %d: %.300s", result.status, result.length, r.status, r.length, result.body)
			}
			now := time.Now()
			own = append(own, now.Sub(began))
			began = now
		}
		latencies[worker] = own
		return nil
	})
	if err != nil {
		return measurement{}, err
	}
	var all []time.Duration
	reconnects := 0
	for i, own := range latencies {
		all = append(all, own...)
		reconnects += lines[i].reconnects
	}
	moved := int64(0)
	if r.method == "GET" {
		moved = r.length * int64(len(all))
	}
	result := watch.summary(all, moved)
	result.Reconnects = reconnects
	return result, nil
}
