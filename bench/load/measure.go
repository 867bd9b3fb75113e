package main

import (
	"slices"
	"sync"
	"syscall"
	"time"
)

// measurement is the common part of every result. Times are of the client's clock.
type measurement struct {
	Count       int     `json:"count"`         // requests, images or blobs finished inside the measured time
	Seconds     float64 `json:"seconds"`       // measured wall time
	Rate        float64 `json:"rate"`          // Count / Seconds
	Bytes       int64   `json:"bytes"`         // body bytes moved
	MBPerSecond float64 `json:"mb_per_second"` // 10^6 bytes per second
	P50Ms       float64 `json:"p50_ms"`
	P99Ms       float64 `json:"p99_ms"`
	MaxMs       float64 `json:"max_ms"`
	LoadCPU     float64 `json:"load_cpu_s"` // CPU seconds that this client itself took while measuring
	Reconnects  int     `json:"reconnects"`
	WarmCount   int     `json:"warm_count"` // items finished before the measured time began
}

// stopwatch holds the start of a measured span, in wall time and own CPU time.
type stopwatch struct {
	at  time.Time
	cpu float64
}

func startWatch() stopwatch { return stopwatch{time.Now(), ownCPU()} }

func ownCPU() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

// summary makes the figures from each item's latency. It sorts the slice.
func (w stopwatch) summary(latencies []time.Duration, bytes int64) measurement {
	seconds := time.Since(w.at).Seconds()
	result := measurement{
		Count: len(latencies), Seconds: seconds, Rate: float64(len(latencies)) / seconds,
		Bytes: bytes, MBPerSecond: float64(bytes) / 1e6 / seconds, LoadCPU: ownCPU() - w.cpu,
	}
	if len(latencies) == 0 {
		return result
	}
	slices.Sort(latencies)
	at := func(share float64) float64 {
		return float64(latencies[int(share*float64(len(latencies)-1))].Nanoseconds()) / 1e6
	}
	result.P50Ms, result.P99Ms, result.MaxMs = at(0.50), at(0.99), at(1)
	return result
}

// together runs one function per worker, all started at once, and gives the first error.
func together(workers int, work func(worker int) error) error {
	var group sync.WaitGroup
	failures := make([]error, workers)
	for worker := range workers {
		group.Add(1)
		go func() {
			defer group.Done()
			failures[worker] = work(worker)
		}()
	}
	group.Wait()
	for _, err := range failures {
		if err != nil {
			return err
		}
	}
	return nil
}
