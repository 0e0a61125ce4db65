package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// maxManifest is the size that registries agree to accept at least; nothing real comes near it.
const maxManifest = 4 << 20

// stored is one accepted PUT of a manifest, as it is kept on disk.
type stored struct {
	Repository  string `json:"repository"`
	Reference   string `json:"reference"`
	ContentType string `json:"contentType"`
	Manifest    []byte `json:"manifest"`
}

// manifestStore lets every request through to the registry behind it, and keeps on disk each manifest that this
// registry accepted, so that a new process can be told all of them again.
type manifestStore struct {
	dir   string
	inner http.Handler
	// writes makes disk and memory see changes in the same order.
	writes sync.Mutex
}

func newManifestStore(dir string, inner http.Handler) (*manifestStore, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := removeUnfinished(dir); err != nil {
		return nil, err
	}
	s := &manifestStore{dir: dir, inner: inner}
	return s, s.replay()
}

func (s *manifestStore) ServeHTTP(resp http.ResponseWriter, req *http.Request) {
	repository, reference, ok := manifestPath(req.URL.Path)
	switch {
	case ok && req.Method == http.MethodPut:
		s.put(resp, req, repository, reference)
	case ok && req.Method == http.MethodDelete:
		s.delete(resp, req, repository, reference)
	default:
		s.inner.ServeHTTP(resp, req)
	}
}

// put hands the manifest on and answers the client only after it is safe on disk, under its reference and its digest.
func (s *manifestStore) put(resp http.ResponseWriter, req *http.Request, repository, reference string) {
	body, err := io.ReadAll(http.MaxBytesReader(resp, req.Body, maxManifest))
	if err != nil {
		http.Error(resp, fmt.Sprintf("reading the manifest: %v", err), http.StatusBadRequest)
		return
	}
	if strings.HasPrefix(reference, "sha256:") && reference != digestOf(body) {
		writeError(resp, http.StatusBadRequest, "DIGEST_INVALID", "the manifest's digest is "+digestOf(body))
		return
	}
	s.writes.Lock()
	defer s.writes.Unlock()
	req.Body = io.NopCloser(bytes.NewReader(body))
	answer := newAnswer()
	s.inner.ServeHTTP(answer, req)
	if answer.status == http.StatusCreated {
		entry := stored{repository, reference, req.Header.Get("Content-Type"), body}
		if err := s.keep(entry); err != nil {
			log.Printf("keeping %s:%s: %v", repository, reference, err)
			writeError(resp, http.StatusInternalServerError, "UNKNOWN", "the manifest could not be kept on disk")
			return
		}
	}
	answer.sendTo(resp)
}

func (s *manifestStore) delete(resp http.ResponseWriter, req *http.Request, repository, reference string) {
	s.writes.Lock()
	defer s.writes.Unlock()
	answer := newAnswer()
	s.inner.ServeHTTP(answer, req)
	if answer.status == http.StatusAccepted {
		if err := os.Remove(s.path(repository, reference)); err != nil && !os.IsNotExist(err) {
			log.Printf("dropping %s:%s: %v", repository, reference, err)
			writeError(resp, http.StatusInternalServerError, "UNKNOWN", "the manifest could not be dropped from disk")
			return
		}
	}
	answer.sendTo(resp)
}

// keep writes the entry by its digest first: a tag must never outlive the manifest it names.
func (s *manifestStore) keep(entry stored) error {
	byDigest := entry
	byDigest.Reference = digestOf(entry.Manifest)
	if err := s.write(byDigest); err != nil || entry.Reference == byDigest.Reference {
		return err
	}
	return s.write(entry)
}

func (s *manifestStore) write(entry stored) error {
	content, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(s.dir, "upload-*")
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), s.path(entry.Repository, entry.Reference))
}

// path names an entry by a digest, because repositories and references make no safe file names.
func (s *manifestStore) path(repository, reference string) string {
	sum := sha256.Sum256([]byte(repository + "\n" + reference))
	return filepath.Join(s.dir, hex.EncodeToString(sum[:])+".json")
}

// replay puts every kept manifest into the registry again. An index is accepted only after the manifests it lists,
// so what was refused is tried again as long as that helps.
func (s *manifestStore) replay() error {
	pending, err := s.entries()
	if err != nil {
		return err
	}
	for {
		var refused []stored
		for _, entry := range pending {
			if !s.tell(http.MethodPut, entry, http.StatusCreated) {
				refused = append(refused, entry)
			} else if _, err := os.Stat(s.path(entry.Repository, digestOf(entry.Manifest))); os.IsNotExist(err) {
				// Deleted by digest while a tag still named it.
				entry.Reference = digestOf(entry.Manifest)
				s.tell(http.MethodDelete, entry, http.StatusAccepted)
			}
		}
		if len(refused) == len(pending) {
			for _, entry := range refused {
				log.Printf("cannot restore %s:%s: its parts are missing", entry.Repository, entry.Reference)
			}
			return nil
		}
		pending = refused
	}
}

func (s *manifestStore) entries() ([]stored, error) {
	paths, err := filepath.Glob(filepath.Join(s.dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var entries []stored
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var entry stored
		if err := json.Unmarshal(content, &entry); err != nil {
			return nil, fmt.Errorf("%s is damaged (remove it, and push that image again): %w", path, err)
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

func (s *manifestStore) tell(method string, entry stored, want int) bool {
	url := "http://localhost/v2/" + entry.Repository + "/manifests/" + entry.Reference
	req, err := http.NewRequest(method, url, bytes.NewReader(entry.Manifest))
	if err != nil {
		return false
	}
	req.Header.Set("Content-Type", entry.ContentType)
	answer := newAnswer()
	s.inner.ServeHTTP(answer, req)
	return answer.status == want
}

// manifestPath splits /v2/REPOSITORY/manifests/REFERENCE.
func manifestPath(path string) (repository, reference string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return "", "", false
	}
	elements := strings.Split(rest, "/")
	last := len(elements) - 1
	if last < 2 || elements[last-1] != "manifests" || elements[last] == "" {
		return "", "", false
	}
	return strings.Join(elements[:last-1], "/"), elements[last], true
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func writeError(resp http.ResponseWriter, status int, code, message string) {
	resp.Header().Set("Content-Type", "application/json")
	resp.WriteHeader(status)
	body := map[string]any{"errors": []map[string]string{{"code": code, "message": message}}}
	if err := json.NewEncoder(resp).Encode(body); err != nil {
		log.Printf("answering: %v", err)
	}
}

// answer holds a response back until it may be sent.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func newAnswer() *answer { return &answer{status: http.StatusOK, header: http.Header{}} }

func (a *answer) Header() http.Header            { return a.header }
func (a *answer) WriteHeader(status int)         { a.status = status }
func (a *answer) Write(part []byte) (int, error) { return a.body.Write(part) }

func (a *answer) sendTo(resp http.ResponseWriter) {
	for name, values := range a.header {
		resp.Header()[name] = values
	}
	resp.WriteHeader(a.status)
	if _, err := resp.Write(a.body.Bytes()); err != nil {
		log.Printf("answering: %v", err)
	}
}
