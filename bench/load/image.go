package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
)

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	indexType    = "application/vnd.oci.image.index.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int    `json:"size"`
}

// image is a small image made of random layers: blobs in the order they are pushed, the config last.
type image struct {
	layers   [][]byte
	config   []byte
	manifest []byte
}

// newImage makes layers of the given size (bytes of random data; no client looks inside) and a true config.
func newImage(layers, layerSize int) (image, error) {
	made := image{}
	var descriptors []descriptor
	var differences []string
	for range layers {
		content := make([]byte, layerSize)
		if _, err := rand.Read(content); err != nil {
			return made, err
		}
		made.layers = append(made.layers, content)
		descriptors = append(descriptors, descriptor{layerType, digestOf(content), layerSize})
		differences = append(differences, digestOf(content))
	}
	var err error
	made.config, err = json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Cmd": []string{"/hello"}, "Labels": map[string]string{"bench.layers": fmt.Sprint(layers)}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": differences},
	})
	if err != nil {
		return made, err
	}
	made.manifest, err = json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": manifestType,
		"config": descriptor{configType, digestOf(made.config), len(made.config)},
		"layers": descriptors,
	})
	return made, err
}

// pushBlob uploads with POST and one PUT, as many clients do with small blobs.
func (t *target) pushBlob(line *connection, login *credential, repository string, content []byte) error {
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
	path, err := follow(opened.location, "digest="+digestOf(content))
	if err != nil {
		return err
	}
	if request, err = t.request(login, "PUT", path, content, "Content-Type: application/octet-stream"); err != nil {
		return err
	}
	closed, err := line.exchange(request, false)
	if err != nil {
		return err
	}
	return closed.expect("PUT of a blob", 201)
}

// pushManifest gives the number of tags the server says it set beyond the reference (OCI-Tag headers).
func (t *target) pushManifest(line *connection, login *credential, repository, reference, mediaType string, content []byte) (int, error) {
	request, err := t.request(login, "PUT", "/v2/"+repository+"/manifests/"+reference, content, "Content-Type: "+mediaType)
	if err != nil {
		return 0, err
	}
	result, err := line.exchange(request, false)
	if err != nil {
		return 0, err
	}
	return result.ociTags, result.expect("PUT of a manifest", 201)
}

// pushImage pushes the layers, the config and then the manifest under the tag.
func (t *target) pushImage(line *connection, login *credential, repository, tag string, made image) error {
	for _, content := range append(made.layers[:len(made.layers):len(made.layers)], made.config) {
		if err := t.pushBlob(line, login, repository, content); err != nil {
			return err
		}
	}
	_, err := t.pushManifest(line, login, repository, tag, manifestType, made.manifest)
	return err
}
