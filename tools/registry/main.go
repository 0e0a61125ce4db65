// Registry is the lab's image registry: one process, loopback only, everything it accepted survives a kill.
//
// It serves the OCI distribution API with go-containerregistry's registry package, which keeps blobs on disk but
// manifests in memory; manifestStore adds what is missing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	address := flag.String("address", "127.0.0.1:5000", "loopback address and port to listen on")
	disk := flag.String("disk", "", "directory that keeps blobs and manifests (made when missing)")
	flag.Parse()
	log.SetFlags(log.LstdFlags | log.Lmsgprefix)
	log.SetPrefix("registry: ")
	if *disk == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *address, *disk); err != nil {
		log.Fatal(err)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, address, disk string) error {
	if err := loopbackOnly(address); err != nil {
		return err
	}
	handler, err := newHandler(disk)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	log.Printf("listening on %s, keeping everything in %s", listener.Addr(), disk)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// newHandler makes the registry's handler over the blobs and manifests in disk.
func newHandler(disk string) (http.Handler, error) {
	blobs := filepath.Join(disk, "blobs")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return nil, err
	}
	if err := removeUnfinished(blobs); err != nil {
		return nil, err
	}
	inner := registry.New(
		registry.Logger(log.Default()),
		registry.WithBlobHandler(registry.NewDiskBlobHandler(blobs)),
	)
	store, err := newManifestStore(filepath.Join(disk, "manifests"), inner)
	if err != nil {
		return nil, err
	}
	return loopbackHosts(store), nil
}

// removeUnfinished drops the uploads that a killed process left half written.
func removeUnfinished(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, "upload-*"))
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// loopbackOnly refuses addresses that other machines could reach: anybody may push here.
func loopbackOnly(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if !isLoopback(host) {
		return fmt.Errorf("%s is not a loopback address; this registry asks nobody for a password, so use 127.0.0.1", address)
	}
	return nil
}

// loopbackHosts refuses requests that name another host, such as those of a web page whose DNS name was made to
// point at this machine.
func loopbackHosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(resp http.ResponseWriter, req *http.Request) {
		host := req.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if !isLoopback(host) {
			http.Error(resp, "this registry answers on loopback names only", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(resp, req)
	})
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
