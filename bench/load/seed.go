package main

import (
	"flag"
	"fmt"
	"strings"
	"sync/atomic"
)

// runSeed puts there what the reads need: one image, many tags of it, or many repositories.
func runSeed(arguments []string) (any, error) {
	flags := flag.NewFlagSet("seed", flag.ExitOnError)
	base, user, basic := targetFlags(flags)
	kind := flags.String("kind", "image", "image | tags (in one repository) | repositories")
	repository := flags.String("repository", "bench/read", "repository; for repositories the start of each one's name")
	tag := flags.String("tag", "latest", "the image's tag")
	layers := flags.Int("layers", 5, "layers of the image")
	layerSize := flags.Int("layer-size", 16<<10, "bytes of a layer")
	first := flags.Int("first", 0, "number of the first tag or repository")
	count := flags.Int("count", 100, "tags or repositories to make")
	perPut := flags.Int("per-put", 10, "tags set by one PUT with ?tag=, where the server can (it says so by OCI-Tag headers); 1: one by one")
	connections := flags.Int("connections", 8, "connections at once")
	_ = flags.Parse(arguments)

	registry, err := newTarget(*base, *user, *basic)
	if err != nil {
		return nil, err
	}
	made, err := newImage(*layers, *layerSize)
	if err != nil {
		return nil, err
	}
	if *kind == "repositories" {
		return registry.seedRepositories(*repository, *first, *count, *connections)
	}
	login := registry.credential("repository:" + *repository + ":pull,push")
	line := newConnection(registry.base.Host)
	defer line.shut()
	if err := registry.pushImage(line, login, *repository, *tag, made); err != nil {
		return nil, err
	}
	if *kind == "tags" {
		return registry.seedTags(login, *repository, made, *first, *count, *perPut, *connections)
	}
	return map[string]any{
		"manifest": digestOf(made.manifest), "manifest_bytes": len(made.manifest),
		"layer": digestOf(made.layers[0]), "layer_bytes": *layerSize, "config": digestOf(made.config),
	}, nil
}

func tagName(number int) string { return fmt.Sprintf("tag-%07d", number) }

// seedTags sets tags tag-0000000 and on. The first PUT finds out whether the server takes several tags at once.
func (t *target) seedTags(login *credential, repository string, made image, first, count, perPut, connections int) (any, error) {
	probe := newConnection(t.base.Host)
	defer probe.shut()
	put := func(line *connection, from, to int) (int, error) {
		reference := tagName(from)
		if to-from > 1 {
			var names []string
			for number := from; number < to; number++ {
				names = append(names, "tag="+tagName(number))
			}
			reference = digestOf(made.manifest) + "?" + strings.Join(names, "&")
		}
		return t.pushManifest(line, login, repository, reference, manifestType, made.manifest)
	}
	if perPut > 1 {
		if acknowledged, err := put(probe, first, first+perPut); err != nil || acknowledged != perPut {
			perPut = 1
		}
	}
	var next atomic.Int64
	watch := startWatch()
	err := together(connections, func(int) error {
		line := newConnection(t.base.Host)
		defer line.shut()
		for {
			from := int(next.Add(int64(perPut))) - perPut
			if from >= count {
				return nil
			}
			if _, err := put(line, first+from, first+min(from+perPut, count)); err != nil {
				return err
			}
		}
	})
	return map[string]any{"count": count, "per_put": perPut, "seconds": watch.summary(nil, 0).Seconds}, err
}

// seedRepositories makes PREFIX/r0000000 and on, each with one empty index: the least that makes a repository.
func (t *target) seedRepositories(prefix string, first, count, connections int) (any, error) {
	index := []byte(`{"schemaVersion":2,"mediaType":"` + indexType + `","manifests":[]}`)
	var next atomic.Int64
	watch := startWatch()
	err := together(connections, func(int) error {
		line := newConnection(t.base.Host)
		defer line.shut()
		for {
			number := int(next.Add(1)) - 1
			if number >= count {
				return nil
			}
			name := fmt.Sprintf("%s/r%07d", prefix, first+number)
			login := t.credential("repository:" + name + ":pull,push")
			if _, err := t.pushManifest(line, login, name, "latest", indexType, index); err != nil {
				return err
			}
		}
	})
	return map[string]any{"count": count, "seconds": watch.summary(nil, 0).Seconds}, err
}
