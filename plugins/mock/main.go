// Mock answers requests with a configured text: the plugin of the article, on today's SDK.
package main

import (
	"github.com/higress-group/proxy-wasm-go-sdk/proxywasm"
	"github.com/higress-group/proxy-wasm-go-sdk/proxywasm/types"
	"github.com/higress-group/wasm-go/pkg/log"
	"github.com/higress-group/wasm-go/pkg/wrapper"
	"github.com/tidwall/gjson"
)

func main() {}

func init() {
	wrapper.SetCtx(
		"mock",
		wrapper.ParseConfigBy(parseConfig),
		wrapper.ProcessRequestHeadersBy(onHttpRequestHeaders),
	)
}

// MyConfig is the configuration that applies to a request: the plugin's own, or that of the rule it matched.
type MyConfig struct {
	content string
}

func parseConfig(json gjson.Result, config *MyConfig, log log.Log) error {
	config.content = json.Get("content").String()
	return nil
}

func onHttpRequestHeaders(ctx wrapper.HttpContext, config MyConfig, log log.Log) types.Action {
	proxywasm.SendHttpResponse(200, nil, []byte(config.content), -1)
	return types.ActionContinue
}
