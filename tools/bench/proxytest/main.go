// Proxytest runs a compiled plugin in the Go SDK's own test host (proxytest, on wazero): a comparator of
// `labkit bench host`.
//
// `proxytest PLUGIN.wasm < orders`: the first line is JSON {"config", "properties", "headers", "body"}, answered by
// the local reply of one request; every further line is a number of requests, answered by the nanoseconds that they
// took.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/higress-group/proxy-wasm-go-sdk/proxywasm/proxytest"
	"github.com/higress-group/proxy-wasm-go-sdk/proxywasm/types"
)

const logLevelInfo = 2

type order struct {
	Config     string      `json:"config"`
	Properties [][2]string `json:"properties"`
	Headers    [][2]string `json:"headers"`
	Body       string      `json:"body"`
}

type reply struct {
	Status uint32 `json:"status"`
	Body   string `json:"body"`
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("proxytest: ")
	if len(os.Args) != 2 {
		log.Fatal("usage: proxytest PLUGIN.wasm")
	}
	if err := run(os.Args[1], os.Stdin, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(path string, in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	first, err := lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("no order: %w", err)
	}
	var given order
	if err := json.Unmarshal(first, &given); err != nil {
		return err
	}
	host, err := start(path, given)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(request(host, given)); err != nil {
		return err
	}
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		requests, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			return err
		}
		begin := time.Now()
		for range requests {
			request(host, given)
		}
		if _, err := fmt.Fprintln(out, time.Since(begin).Nanoseconds()); err != nil {
			return err
		}
	}
}

func start(path string, given order) (proxytest.HostEmulator, error) {
	wasm, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	vm, err := proxytest.NewWasmVMContext(wasm)
	if err != nil {
		return nil, err
	}
	options := proxytest.NewEmulatorOption().WithVMContext(vm).WithPluginConfiguration([]byte(given.Config))
	for _, property := range given.Properties {
		options = options.WithProperty(strings.Split(property[0], "\x00"), []byte(property[1]))
	}
	host, _ := proxytest.NewHostEmulator(options)
	// Higress' wrapper asks for it while it starts, and this host ends the process for a function it does not know.
	host.RegisterForeignFunction("get_log_level", func([]byte) []byte { return []byte{logLevelInfo, 0, 0, 0} })
	if host.StartVM() != types.OnVMStartStatusOK {
		return nil, fmt.Errorf("the plugin's VM did not start")
	}
	if host.StartPlugin() != types.OnPluginStartStatusOK {
		return nil, fmt.Errorf("the plugin refused its configuration")
	}
	return host, nil
}

// request is one request's whole life as far as proxytest has it: it ends with the plugin's log callback; done and
// delete do not reach a compiled plugin.
func request(host proxytest.HostEmulator, given order) reply {
	id := host.InitializeHttpContext()
	host.CallOnRequestHeaders(id, given.Headers, given.Body == "")
	if given.Body != "" {
		host.CallOnRequestBody(id, []byte(given.Body), true)
	}
	host.CompleteHttpContext(id)
	if sent := host.GetSentLocalResponse(id); sent != nil {
		return reply{sent.StatusCode, string(sent.Data)}
	}
	return reply{0, string(host.GetCurrentRequestBody(id))}
}
