package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash"
	"net"
	"strconv"
	"time"
)

const (
	dialTimeout    = 5 * time.Second
	answerTimeout  = 120 * time.Second // a server that says nothing for this long is counted as failed
	readBufferSize = 64 << 10
	discardSize    = 256 << 10 // small enough to stay in a core's own cache while a large body runs through it
	keptBodyLimit  = 4 << 10
)

// answer is what a response said. Of the body, only that of a refusal is kept, for the message.
type answer struct {
	status   int
	length   int64
	location string
	digest   string
	ociTags  int
	close    bool
	body     []byte
}

// connection is one keep-alive HTTP/1.1 connection, used by one goroutine.
type connection struct {
	address    string
	socket     net.Conn
	reader     *bufio.Reader
	discard    []byte
	hash       hash.Hash // where set, it sees every body byte
	fresh      bool      // no answer has been read on this socket yet
	reconnects int
}

func newConnection(address string) *connection {
	return &connection{address: address, discard: make([]byte, discardSize)}
}

func (c *connection) open() error {
	if c.socket != nil {
		return nil
	}
	socket, err := net.DialTimeout("tcp", c.address, dialTimeout)
	if err != nil {
		return err
	}
	c.socket, c.fresh = socket, true
	if c.reader == nil {
		c.reader = bufio.NewReaderSize(socket, readBufferSize)
	} else {
		c.reader.Reset(socket)
	}
	return nil
}

func (c *connection) shut() {
	if c.socket != nil {
		_ = c.socket.Close()
		c.socket = nil
	}
}

// exchange writes a whole request and reads its answer. A keep-alive connection that the server closed in between is
// opened again once, as every HTTP client does.
func (c *connection) exchange(request []byte, head bool) (answer, error) {
	return c.exchangeParts([][]byte{request}, head)
}

// exchangeParts is exchange for a request whose head and body are several slices, written in order without being joined.
func (c *connection) exchangeParts(parts [][]byte, head bool) (answer, error) {
	for {
		if err := c.open(); err != nil {
			return answer{}, err
		}
		reused := !c.fresh
		result, started, err := c.attempt(parts, head)
		if err == nil {
			return result, nil
		}
		c.shut()
		if !reused || started {
			return answer{}, err
		}
		c.reconnects++
	}
}

// attempt also tells whether the server had begun to answer.
func (c *connection) attempt(parts [][]byte, head bool) (answer, bool, error) {
	_ = c.socket.SetDeadline(time.Now().Add(answerTimeout))
	var writeError error
	for _, part := range parts {
		if _, writeError = c.socket.Write(part); writeError != nil {
			break // the server may have refused early: its answer says more than EPIPE
		}
	}
	if _, err := c.reader.Peek(1); err != nil {
		return answer{}, false, errors.Join(writeError, err)
	}
	result, err := c.readAnswer(head)
	if err != nil {
		return answer{}, true, errors.Join(writeError, err)
	}
	c.fresh = false
	if result.close || writeError != nil {
		c.shut()
	}
	return result, true, nil
}

func (c *connection) readAnswer(head bool) (answer, error) {
	for {
		result, chunked, err := c.readHead()
		if err != nil {
			return answer{}, err
		}
		if result.status >= 100 && result.status < 200 {
			continue
		}
		if head || result.status == 204 || result.status == 304 {
			return result, nil
		}
		keep := result.status >= 400
		if chunked {
			err = c.readChunks(&result, keep)
		} else {
			err = c.readBody(&result, result.length, keep)
		}
		return result, err
	}
}

func (c *connection) readHead() (answer, bool, error) {
	line, err := c.line()
	if err != nil {
		return answer{}, false, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return answer{}, false, fmt.Errorf("not an HTTP/1.x status line: %q", line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return answer{}, false, fmt.Errorf("not a status line: %q", line)
	}
	result, chunked := answer{status: status}, false
	for {
		line, err = c.line()
		if err != nil {
			return result, false, err
		}
		if len(line) == 0 {
			return result, chunked, nil
		}
		name, value, _ := bytes.Cut(line, []byte{':'})
		value = bytes.TrimSpace(value)
		switch { // the length is compared first: most headers cost one comparison of integers
		case len(name) == 14 && bytes.EqualFold(name, []byte("Content-Length")):
			if result.length, err = strconv.ParseInt(string(value), 10, 64); err != nil {
				return result, false, err
			}
		case len(name) == 17 && bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = bytes.EqualFold(value, []byte("chunked"))
		case len(name) == 8 && bytes.EqualFold(name, []byte("Location")):
			result.location = string(value)
		case len(name) == 21 && bytes.EqualFold(name, []byte("Docker-Content-Digest")):
			result.digest = string(value)
		case len(name) == 7 && bytes.EqualFold(name, []byte("OCI-Tag")):
			result.ociTags++
		case len(name) == 10 && bytes.EqualFold(name, []byte("Connection")):
			result.close = bytes.EqualFold(value, []byte("close"))
		}
	}
}

// line reads one header line without its end; the slice is good until the next read.
func (c *connection) line() ([]byte, error) {
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

func (c *connection) readBody(result *answer, remaining int64, keep bool) error {
	for remaining > 0 {
		count, err := c.reader.Read(c.discard[:min(remaining, discardSize)])
		if err != nil {
			return fmt.Errorf("body cut off with %d bytes to come: %w", remaining, err)
		}
		if c.hash != nil {
			c.hash.Write(c.discard[:count])
		}
		if keep && len(result.body) < keptBodyLimit {
			result.body = append(result.body, c.discard[:count]...)
		}
		remaining -= int64(count)
	}
	return nil
}

func (c *connection) readChunks(result *answer, keep bool) error {
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		field, _, _ := bytes.Cut(line, []byte{';'})
		size, err := strconv.ParseInt(string(field), 16, 64)
		if err != nil {
			return fmt.Errorf("not a chunk size: %q", line)
		}
		if err := c.readBody(result, size, keep); err != nil {
			return err
		}
		result.length += size
		if line, err = c.line(); err != nil || len(line) != 0 {
			return errors.Join(err, errorIf(len(line) != 0, "no line end after a chunk (trailers are not understood)"))
		}
		if size == 0 {
			return nil
		}
	}
}

func errorIf(condition bool, text string) error {
	if condition {
		return errors.New(text)
	}
	return nil
}

// expect turns an answer with another status into an error that shows what the server said.
func (a answer) expect(action string, statuses ...int) error {
	for _, status := range statuses {
		if a.status == status {
			return nil
		}
	}
	body := a.body
	if len(body) > 400 {
		body = body[:400]
	}
	return fmt.Errorf("%s: answered %d %s", action, a.status, body)
}
