package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding"
	"flag"
	"fmt"
	"time"
)

const (
	blockSize = 8 << 20
	chunkSize = 32 << 10 // what docker sends: io.Copy's buffer becomes one chunk
	stampSize = 32
)

// runUpload pushes large blobs, all connections started at once, each blob different from all others.
func runUpload(arguments []string) (any, error) {
	flags := flag.NewFlagSet("upload", flag.ExitOnError)
	base, user, basic := targetFlags(flags)
	prefix := flags.String("prefix", "bench/large", "start of each connection's repository")
	size := flags.Int64("size", 256<<20, "bytes of a blob, at least 32")
	connections := flags.Int("connections", 1, "uploads at once, each a blob of its own in a repository of its own")
	chunked := flags.Bool("chunked", false, "PATCH with Transfer-Encoding: chunked in pieces of 32 KiB, as docker does, not with Content-Length")
	_ = flags.Parse(arguments)

	registry, err := newTarget(*base, *user, *basic)
	if err != nil {
		return nil, err
	}
	bodies, err := newLargeBodies(*size, *connections, *chunked)
	if err != nil {
		return nil, err
	}
	logins := make([]*credential, *connections)
	for i := range logins {
		logins[i] = registry.credential(fmt.Sprintf("repository:%s-%d:pull,push", *prefix, i))
		if _, err := logins[i].header(); err != nil {
			return nil, err
		}
	}
	latencies := make([]time.Duration, *connections)
	watch := startWatch()
	err = together(*connections, func(worker int) error {
		began := time.Now()
		repository := fmt.Sprintf("%s-%d", *prefix, worker)
		if err := registry.pushLarge(logins[worker], repository, bodies[worker], *chunked); err != nil {
			return err
		}
		latencies[worker] = time.Since(began)
		return nil
	})
	if err != nil {
		return nil, err
	}
	result := struct {
		measurement
		Paths []string `json:"paths"`
	}{measurement: watch.summary(latencies, *size*int64(*connections))}
	for worker, body := range bodies {
		result.Paths = append(result.Paths, fmt.Sprintf("/v2/%s-%d/blobs/%s", *prefix, worker, body.digest))
	}
	return result, nil
}

// largeBody is a request body as slices to write in order; most of them share one block of memory with all other bodies.
type largeBody struct {
	size   int64
	digest string
	parts  [][]byte
}

// newLargeBodies makes blobs that repeat one random block and differ in their last 32 bytes, so that the digest of the
// common part is computed once and memory stays at a few blocks whatever the sizes.
func newLargeBodies(size int64, count int, chunked bool) ([]largeBody, error) {
	if size < stampSize {
		return nil, fmt.Errorf("-size must be at least %d", stampSize)
	}
	block := make([]byte, blockSize)
	if _, err := rand.Read(block); err != nil {
		return nil, err
	}
	frame := func(content []byte) []byte { return content }
	if chunked {
		frame = frameChunks
	}
	common, tailSize := int((size-stampSize)/blockSize), (size-stampSize)%blockSize+stampSize
	hash, framed := sha256.New(), frame(block)
	var shared [][]byte
	for range common {
		hash.Write(block)
		shared = append(shared, framed)
	}
	state, err := hash.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return nil, err
	}
	bodies := make([]largeBody, count)
	for i := range bodies {
		tail := append([]byte(nil), append(block, block[:stampSize]...)[:tailSize]...)
		if _, err := rand.Read(tail[tailSize-stampSize:]); err != nil {
			return nil, err
		}
		if err := hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(state); err != nil {
			return nil, err
		}
		hash.Write(tail)
		bodies[i] = largeBody{size, fmt.Sprintf("sha256:%x", hash.Sum(nil)), append(shared[:common:common], frame(tail))}
		if chunked {
			bodies[i].parts = append(bodies[i].parts, []byte("0\r\n\r\n"))
		}
	}
	return bodies, nil
}

func frameChunks(content []byte) []byte {
	var framed bytes.Buffer
	for len(content) > 0 {
		piece := content[:min(chunkSize, len(content))]
		fmt.Fprintf(&framed, "%x\r\n", len(piece))
		framed.Write(piece)
		framed.WriteString("\r\n")
		content = content[len(piece):]
	}
	return framed.Bytes()
}

// pushLarge does POST, one PATCH with the whole body, PUT with the digest and no body.
func (t *target) pushLarge(login *credential, repository string, body largeBody, chunked bool) error {
	line := newConnection(t.base.Host)
	defer line.shut()
	request, err := t.request(login, "POST", "/v2/"+repository+"/blobs/uploads/", []byte{})
	if err != nil {
		return err
	}
	opened, err := line.exchange(request, false)
	if err != nil {
		return err
	}
	if err := opened.expect("POST of an upload", 202); err != nil {
		return err
	}
	path, err := follow(opened.location, "")
	if err != nil {
		return err
	}
	framing := fmt.Sprintf("Content-Length: %d", body.size)
	if chunked {
		framing = "Transfer-Encoding: chunked"
	}
	if request, err = t.request(login, "PATCH", path, nil, "Content-Type: application/octet-stream", framing); err != nil {
		return err
	}
	patched, err := line.exchangeParts(append([][]byte{request}, body.parts...), false)
	if err != nil {
		return err
	}
	if err := patched.expect("PATCH of an upload", 202); err != nil {
		return err
	}
	if path, err = follow(patched.location, "digest="+body.digest); err != nil {
		return err
	}
	if request, err = t.request(login, "PUT", path, []byte{}); err != nil {
		return err
	}
	closed, err := line.exchange(request, false)
	if err != nil {
		return err
	}
	return closed.expect("PUT of a large blob", 201)
}
