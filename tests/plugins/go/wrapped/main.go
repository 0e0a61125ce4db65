// Wrapped is a plugin on Higress' wrapper: rules choose the configuration, bodies come whole or in pieces, and the
// wrapper's own client makes the call-out.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"

	"github.com/higress-group/proxy-wasm-go-sdk/proxywasm"
	"github.com/higress-group/proxy-wasm-go-sdk/proxywasm/types"
	"github.com/higress-group/wasm-go/pkg/log"
	"github.com/higress-group/wasm-go/pkg/wrapper"
	"github.com/tidwall/gjson"
)

func main() {}

func init() {
	wrapper.SetCtx(
		"wrapped",
		wrapper.ParseConfig(parseConfig),
		wrapper.ProcessRequestHeaders(onRequestHeaders),
		wrapper.ProcessRequestBody(onRequestBody),
		wrapper.ProcessResponseHeaders(onResponseHeaders),
		wrapper.ProcessStreamingResponseBody(onResponseChunk),
		wrapper.ProcessStreamDone(onDone),
	)
}

type config struct {
	name   string
	reply  bool
	client wrapper.HttpClient
}

func parseConfig(json gjson.Result, config *config) error {
	config.name = json.Get("name").String()
	config.reply = json.Get("reply").Bool()
	if config.name == "" {
		return errors.New("name is missing")
	}
	config.client = wrapper.NewClusterClient(wrapper.TargetCluster{Cluster: "callout", Host: "callout.test"})
	return nil
}

func note(ctx wrapper.HttpContext, format string, args ...any) {
	log.Warnf("%s %s", ctx.GetStringContext("case", ""), fmt.Sprintf(format, args...))
}

func onRequestHeaders(ctx wrapper.HttpContext, config config) types.Action {
	number, _ := proxywasm.GetHttpRequestHeader("x-case")
	ctx.SetContext("case", number)
	// Logged before anything else, in the form the other plugins have.
	proxywasm.LogWarnf("%s request %s %s %s %s", number, config.name, ctx.Method(), ctx.Host(), ctx.Path())
	if config.reply {
		_ = proxywasm.SendHttpResponse(200, [][2]string{{"content-type", "text/plain"}, {"x-name", config.name}}, []byte("hello "+config.name), -1)
		return types.ActionContinue
	}
	_ = proxywasm.RemoveHttpRequestHeader("content-length")
	_ = proxywasm.AddHttpRequestHeader("x-name", config.name)
	if call, _ := proxywasm.GetHttpRequestHeader("x-call"); call != "" {
		err := config.client.Get(call, [][2]string{{"x-case", number}}, func(status int, headers http.Header, body []byte) {
			_ = proxywasm.AddHttpRequestHeader("x-called", fmt.Sprintf("%d %s %x", status, headers.Get("x-answer"), body))
			_ = proxywasm.ResumeHttpRequest()
		}, 100)
		if err != nil {
			_ = proxywasm.SendHttpResponse(500, nil, []byte(err.Error()), -1)
		}
		return types.HeaderStopAllIterationAndWatermark
	}
	return types.ActionContinue
}

func onRequestBody(ctx wrapper.HttpContext, config config, body []byte) types.Action {
	_ = proxywasm.ReplaceHttpRequestBody([]byte(fmt.Sprintf("%s:%d:%s", config.name, len(body), body)))
	return types.ActionContinue
}

func onResponseHeaders(ctx wrapper.HttpContext, config config) types.Action {
	_ = proxywasm.RemoveHttpResponseHeader("content-length")
	_ = proxywasm.AddHttpResponseHeader("x-name", config.name)
	return types.ActionContinue
}

func onResponseChunk(ctx wrapper.HttpContext, config config, chunk []byte, last bool) []byte {
	chunk = bytes.ToUpper(chunk)
	if last {
		chunk = append(chunk, []byte("!"+config.name)...)
	}
	return chunk
}

func onDone(ctx wrapper.HttpContext, config config) {
	proxywasm.LogWarnf("%s x enter", ctx.GetStringContext("case", ""))
}
