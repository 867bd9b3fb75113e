package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	tokenLife   = 300 * time.Second // what a token without expires_in lives
	tokenMargin = 90 * time.Second  // renewed this long before its end: a large upload must not outlive its token
)

// target is the registry under load and how to log in there.
type target struct {
	base     *url.URL
	user     string
	password string
	basic    bool
	http     *http.Client
}

func targetFlags(flags *flag.FlagSet) (*string, *string, *bool) {
	base := flags.String("base", "", "address of the registry, as http://127.0.0.1:5000")
	user := flags.String("user", "", "log in as this user, with the password in LOAD_PASSWORD (empty: no login)")
	basic := flags.Bool("basic", false, "send Basic credentials with every request instead of a Bearer token")
	return base, user, basic
}

func newTarget(base, user string, basic bool) (*target, error) {
	parsed, err := url.Parse(base)
	if err != nil || parsed.Host == "" {
		return nil, fmt.Errorf("-base %q is not an address like http://127.0.0.1:5000", base)
	}
	return &target{
		base: parsed, user: user, password: os.Getenv("LOAD_PASSWORD"), basic: basic,
		http: &http.Client{Timeout: 60 * time.Second},
	}, nil
}

// credential gives the Authorization header's line for a set of scopes, cached until shortly before the token ends.
// It is safe for several goroutines.
type credential struct {
	target  *target
	scopes  []string
	mutex   sync.Mutex
	line    string
	renewAt time.Time
}

func (t *target) credential(scopes ...string) *credential {
	return &credential{target: t, scopes: scopes}
}

// header returns "" without login, else one whole header line with its end, and whether it is a new one.
func (c *credential) header() (string, error) {
	if c.target.user == "" {
		return "", nil
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.line != "" && time.Now().Before(c.renewAt) {
		return c.line, nil
	}
	if c.target.basic {
		request := http.Request{Header: http.Header{}}
		request.SetBasicAuth(c.target.user, c.target.password)
		c.line, c.renewAt = "Authorization: "+request.Header.Get("Authorization")+"\r\n", time.Now().Add(24*time.Hour)
		return c.line, nil
	}
	token, life, err := c.target.fetchToken(c.scopes)
	if err != nil {
		return "", err
	}
	c.line, c.renewAt = "Authorization: Bearer "+token+"\r\n", time.Now().Add(max(life-tokenMargin, life/2))
	return c.line, nil
}

var challengeParameter = regexp.MustCompile(`(\w+)="([^"]*)"`)

// fetchToken does what clients do: GET /v2/, read the challenge, ask its realm with Basic credentials.
// Source: https://distribution.github.io/distribution/spec/auth/token/
func (t *target) fetchToken(scopes []string) (string, time.Duration, error) {
	response, err := t.http.Get(t.base.JoinPath("/v2/").String())
	if err != nil {
		return "", 0, err
	}
	_ = response.Body.Close()
	realm, query := "", url.Values{}
	for _, challenge := range response.Header.Values("WWW-Authenticate") {
		if !strings.HasPrefix(strings.ToLower(challenge), "bearer ") {
			continue
		}
		for _, pair := range challengeParameter.FindAllStringSubmatch(challenge, -1) {
			switch pair[1] {
			case "realm":
				realm = pair[2]
			case "service":
				query.Set("service", pair[2])
			}
		}
	}
	if realm == "" {
		return "", 0, fmt.Errorf("GET /v2/ answered %d without a Bearer challenge", response.StatusCode)
	}
	for _, scope := range scopes {
		query.Add("scope", scope)
	}
	request, err := http.NewRequest("GET", realm+"?"+query.Encode(), nil)
	if err != nil {
		return "", 0, err
	}
	request.SetBasicAuth(t.user, t.password)
	return t.readToken(request)
}

func (t *target) readToken(request *http.Request) (string, time.Duration, error) {
	response, err := t.http.Do(request)
	if err != nil {
		return "", 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return "", 0, err
	}
	if response.StatusCode != http.StatusOK {
		return "", 0, fmt.Errorf("token: answered %d %.300s", response.StatusCode, body)
	}
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", 0, err
	}
	if answer.Token == "" {
		answer.Token = answer.AccessToken
	}
	if answer.Token == "" {
		return "", 0, errors.New("token: the answer holds none")
	}
	life := tokenLife
	if answer.ExpiresIn > 0 {
		life = time.Duration(answer.ExpiresIn) * time.Second
	}
	return answer.Token, life, nil
}

// request writes a request's head, and its body if given, into one slice. Headers are whole lines without their ends.
func (t *target) request(login *credential, method, path string, body []byte, headers ...string) ([]byte, error) {
	authorization, err := login.header()
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	text.Grow(512 + len(authorization) + len(body))
	fmt.Fprintf(&text, "%s %s HTTP/1.1\r\nHost: %s\r\n%s", method, path, t.base.Host, authorization)
	for _, header := range headers {
		text.WriteString(header)
		text.WriteString("\r\n")
	}
	if body != nil {
		fmt.Fprintf(&text, "Content-Length: %d\r\n", len(body))
	}
	text.WriteString("\r\n")
	text.Write(body)
	return text.Bytes(), nil
}

// follow turns a Location into a path with its query, and adds a parameter.
func follow(location, parameter string) (string, error) {
	parsed, err := url.Parse(location)
	if err != nil || parsed.Path == "" {
		return "", fmt.Errorf("no usable Location: %q", location)
	}
	path := parsed.RequestURI()
	if parameter == "" {
		return path, nil
	}
	if parsed.RawQuery != "" {
		return path + "&" + parameter, nil
	}
	return path + "?" + parameter, nil
}
