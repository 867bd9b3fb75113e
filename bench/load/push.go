package main

import (
	"flag"
	"fmt"
	"sync/atomic"
	"time"
)

// runPush pushes small images until the time is over; an image counts when its manifest has been acknowledged.
func runPush(arguments []string) (any, error) {
	flags := flag.NewFlagSet("push", flag.ExitOnError)
	base, user, basic := targetFlags(flags)
	prefix := flags.String("prefix", "bench/push", "repository, or with -own the start of each connection's repository")
	own := flags.Bool("own", false, "a repository of its own for each connection")
	run := flags.String("run", "r", "word that makes the tags of this run its own")
	layers := flags.Int("layers", 2, "layers of an image")
	layerSize := flags.Int("layer-size", 4096, "bytes of a layer")
	connections := flags.Int("connections", 8, "connections at once, one image at a time on each")
	seconds := flags.Float64("seconds", 5, "measure for this long")
	warm := flags.Float64("warm", 1, "push for this long before measuring")
	_ = flags.Parse(arguments)

	registry, err := newTarget(*base, *user, *basic)
	if err != nil {
		return nil, err
	}
	pusher := &imagePusher{target: registry, run: *run, layers: *layers, layerSize: *layerSize}
	for worker := range *connections {
		repository := *prefix
		if *own {
			repository = fmt.Sprintf("%s-%d", *prefix, worker)
		}
		pusher.repositories = append(pusher.repositories, repository)
		if *own || worker == 0 {
			pusher.logins = append(pusher.logins, registry.credential("repository:"+repository+":pull,push"))
		} else {
			pusher.logins = append(pusher.logins, pusher.logins[0])
		}
	}
	before, err := pusher.measure("warm", time.Duration(*warm*float64(time.Second)))
	if err != nil {
		return nil, err
	}
	result, err := pusher.measure("image", time.Duration(*seconds*float64(time.Second)))
	result.WarmCount = before.Count
	return result, err
}

type imagePusher struct {
	target            *target
	repositories      []string
	logins            []*credential
	run               string
	layers, layerSize int
}

func (p *imagePusher) measure(phase string, duration time.Duration) (measurement, error) {
	workers := len(p.repositories)
	latencies := make([][]time.Duration, workers)
	lines := make([]*connection, workers)
	for i := range lines {
		if _, err := p.logins[i].header(); err != nil { // a token's fetch is not part of a push
			return measurement{}, err
		}
		lines[i] = newConnection(p.target.base.Host)
		defer lines[i].shut()
	}
	var over atomic.Bool
	defer time.AfterFunc(duration, func() { over.Store(true) }).Stop()
	watch := startWatch()
	err := together(workers, func(worker int) error {
		for number := 0; !over.Load(); number++ {
			made, err := newImage(p.layers, p.layerSize)
			if err != nil {
				return err
			}
			began := time.Now()
			tag := fmt.Sprintf("%s-%s-%d-%d", p.run, phase, worker, number)
			if err := p.target.pushImage(lines[worker], p.logins[worker], p.repositories[worker], tag, made); err != nil {
				return err
			}
			latencies[worker] = append(latencies[worker], time.Since(began))
		}
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
	result := watch.summary(all, int64(len(all)*p.layers*p.layerSize))
	result.Reconnects = reconnects
	return result, nil
}
