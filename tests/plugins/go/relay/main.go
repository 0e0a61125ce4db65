// Relay holds a message back at the point that the header `x-relay` names, asks a server behind a call-out, and lets
// the message go with what the server answered. Points: request, request-body, response, response-body; `tick` waits
// for the timer instead; `metrics` counts.
package main

import (
	"fmt"
	"strings"

	"github.com/higress-group/proxy-wasm-go-sdk/proxywasm"
	"github.com/higress-group/proxy-wasm-go-sdk/proxywasm/types"
)

func main() {}

func init() {
	proxywasm.SetPluginContext(func(uint32) types.PluginContext { return &plugin{waiting: map[uint32]*stream{}} })
}

type plugin struct {
	types.DefaultPluginContext
	cluster string
	waiting map[uint32]*stream
	counter proxywasm.MetricCounter
	gauge   proxywasm.MetricGauge
}

func (p *plugin) OnPluginStart(int) types.OnPluginStartStatus {
	config, err := proxywasm.GetPluginConfiguration()
	if err != nil {
		proxywasm.LogCriticalf("no configuration: %v", err)
		return types.OnPluginStartStatusFailed
	}
	p.cluster = string(config)
	p.counter = proxywasm.DefineCounterMetric("relay_requests")
	p.gauge = proxywasm.DefineGaugeMetric("relay_streams")
	if err := proxywasm.SetTickPeriodMilliSeconds(20); err != nil {
		return types.OnPluginStartStatusFailed
	}
	return types.OnPluginStartStatusOK
}

func (p *plugin) OnTick() {
	for id, waiting := range p.waiting {
		delete(p.waiting, id)
		if err := proxywasm.SetEffectiveContext(id); err != nil {
			proxywasm.LogCriticalf("effective context %d: %v", id, err)
			continue
		}
		waiting.note("tick")
		_ = proxywasm.ReplaceHttpRequestHeader("x-relayed", "tick")
		_ = proxywasm.ResumeHttpRequest()
	}
}

func (p *plugin) NewHttpContext(id uint32) types.HttpContext { return &stream{id: id, plugin: p} }

type stream struct {
	types.DefaultHttpContext
	id     uint32
	plugin *plugin
	point  string
	caseID string
	asked  bool
}

func (s *stream) note(format string, args ...any) {
	proxywasm.LogWarnf("%s %s", s.caseID, fmt.Sprintf(format, args...))
}

// ask sends the call-out; its answer is handed to then, or the reply is 502.
func (s *stream) ask(body []byte, then func(headers [][2]string, body []byte, trailers [][2]string)) types.Action {
	s.asked = true
	headers := [][2]string{{":method", "POST"}, {":path", "/relay"}, {":authority", "relay.test"}, {"x-case", s.caseID}, {"x-point", s.point}}
	_, err := proxywasm.DispatchHttpCall(s.plugin.cluster, headers, body, nil, 100, func(_, size, _ int) {
		answer, err := proxywasm.GetHttpCallResponseBody(0, size)
		if err != nil && size > 0 {
			s.note("no body: %v", err)
		}
		answered, _ := proxywasm.GetHttpCallResponseHeaders()
		trailers, _ := proxywasm.GetHttpCallResponseTrailers()
		then(answered, answer, trailers)
	})
	if err != nil {
		s.note("call: %v", err)
		_ = proxywasm.SendHttpResponse(502, [][2]string{{"x-relay", "no call"}}, []byte("no call\n"), -1)
	}
	return types.ActionPause
}

// fields says what came, without what only one host adds to answers.
func fields(pairs [][2]string) string {
	var names []string
	for _, pair := range pairs {
		if !strings.HasPrefix(pair[0], "x-envoy-") {
			names = append(names, pair[0]+"="+pair[1])
		}
	}
	return strings.Join(names, ";")
}

func (s *stream) OnHttpRequestHeaders(count int, end bool) types.Action {
	s.caseID, _ = proxywasm.GetHttpRequestHeader("x-case")
	s.point, _ = proxywasm.GetHttpRequestHeader("x-relay")
	_ = proxywasm.RemoveHttpRequestHeader("content-length")
	s.note("request headers %d %v", count, end)
	switch s.point {
	case "request":
		return s.ask(nil, func(headers [][2]string, body []byte, trailers [][2]string) {
			_ = proxywasm.AddHttpRequestHeader("x-relayed", fields(headers))
			_ = proxywasm.AddHttpRequestHeader("x-relayed-body", fmt.Sprintf("%x", body))
			_ = proxywasm.AddHttpRequestHeader("x-relayed-trailers", fields(trailers))
			_ = proxywasm.ResumeHttpRequest()
		})
	case "tick":
		s.plugin.waiting[s.id] = s
		return types.ActionPause
	case "metrics":
		s.plugin.counter.Increment(1)
		s.plugin.gauge.Add(1)
		_ = proxywasm.AddHttpRequestHeader("x-gauge", fmt.Sprint(s.plugin.gauge.Value()))
	}
	return types.ActionContinue
}

func (s *stream) OnHttpRequestBody(size int, end bool) types.Action {
	s.note("request body %v", end)
	if s.point != "request-body" || s.asked {
		return types.ActionContinue
	}
	if !end {
		return types.ActionPause
	}
	return s.askWithRequestBody()
}

func (s *stream) OnHttpRequestTrailers(count int) types.Action {
	s.note("request trailers %d", count)
	if s.point == "request-body" && !s.asked {
		return s.askWithRequestBody()
	}
	_ = proxywasm.AddHttpRequestTrailer("x-relay-trailer", "added")
	return types.ActionContinue
}

func (s *stream) askWithRequestBody() types.Action {
	body, err := proxywasm.GetHttpRequestBody(0, 1<<20)
	if err != nil {
		s.note("request body: %v", err)
	}
	return s.ask(body, func(_ [][2]string, answer []byte, _ [][2]string) {
		if err := proxywasm.ReplaceHttpRequestBody(answer); err != nil {
			s.note("replace: %v", err)
		}
		_ = proxywasm.ResumeHttpRequest()
	})
}

func (s *stream) OnHttpResponseHeaders(count int, end bool) types.Action {
	s.note("response headers %d %v", count, end)
	_ = proxywasm.RemoveHttpResponseHeader("content-length")
	if s.point == "response" && !s.asked {
		return s.ask(nil, func(headers [][2]string, body []byte, trailers [][2]string) {
			_ = proxywasm.AddHttpResponseHeader("x-relayed", fields(headers)+"|"+fields(trailers))
			_ = proxywasm.AddHttpResponseHeader("x-relayed-body", fmt.Sprintf("%x", body))
			_ = proxywasm.ResumeHttpResponse()
		})
	}
	return types.ActionContinue
}

func (s *stream) OnHttpResponseBody(size int, end bool) types.Action {
	s.note("response body %v", end)
	if s.point != "response-body" || s.asked {
		return types.ActionContinue
	}
	if !end {
		return types.ActionPause
	}
	return s.askWithResponseBody()
}

func (s *stream) OnHttpResponseTrailers(count int) types.Action {
	s.note("response trailers %d", count)
	if s.point == "response-body" && !s.asked {
		return s.askWithResponseBody()
	}
	_ = proxywasm.AddHttpResponseTrailer("x-relay-trailer", "added")
	return types.ActionContinue
}

func (s *stream) askWithResponseBody() types.Action {
	body, err := proxywasm.GetHttpResponseBody(0, 1<<20)
	if err != nil {
		s.note("response body: %v", err)
	}
	return s.ask(body, func(_ [][2]string, answer []byte, _ [][2]string) {
		if err := proxywasm.ReplaceHttpResponseBody(answer); err != nil {
			s.note("replace: %v", err)
		}
		_ = proxywasm.ResumeHttpResponse()
	})
}

func (s *stream) OnHttpStreamDone() {
	delete(s.plugin.waiting, s.id)
	if s.point == "metrics" {
		s.plugin.gauge.Add(-1)
	}
	s.note("x enter")
}
