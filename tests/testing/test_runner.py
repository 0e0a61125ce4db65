"""What passes and what fails, one row for each part of the format."""

from __future__ import annotations

import textwrap

import pytest

from labkit.proxywasm import Module
from labkit.testing import load_suite, run_suite

REQUEST = "request_headers: {{input: {{header: [{header}]}}, result: {result}}}"


def request(result: str, header: str = "{key: ':path', value: /}") -> str:
    return REQUEST.format(header=header, result=result)


REPLY = "{key: x-reply, value: 1}"
LIST = "{key: X-List, value: given}"

PASS = {
    "nothing is expected": request("{}"),
    "header": request("{has_header: [{key: x-set, value: by plugin}]}"),
    "name in any case": request("{has_header: [{key: X-SET, value: by plugin}]}"),
    "repeats are joined": request("{has_header: [{key: x-list, value: 'given, added'}]}", LIST),
    "lines keep the case of names": request("{headers: [{exact: 'X-List: given, added'}]}", LIST),
    "no header": request("{no_header: [{key: x-gone}]}", "{key: x-gone, value: 1}"),
    "regex of a line": request("{headers: [{regex: 'x-s.t: .*'}]}"),
    "absence": request("{headers: [{regex: 'x-gone:.*', invert: true}]}"),
    "log": request("{log: [{exact: request headers}]}"),
    "log below the level": request("{log: [{regex: 'only.*', invert: true}]}"),
    "reply": request("{immediate: {http_status: 403, grpc_status: 4294967295, details: why}}", REPLY),
    "reply's body and last header": request(
        "{immediate: {}, body: [{exact: denied}], has_header: [{key: x-reply, value: two}]}", REPLY
    ),
    "request headers are not the reply's": request("{immediate: {}, no_header: [{key: x-set}]}", REPLY),
    "property": "properties: [{path: source.geo, value: NL}]\n" + request("{has_header: [{key: x-geo, value: NL}]}"),
    "other properties are not there": request("{no_header: [{key: x-geo}]}"),
    "init": "plugin_init: {log: [{exact: ''}]}",
    "life": "stream_init: {log: [{exact: created}]}\nstream_destroy: {log: [{exact: done}, {exact: created, "
    "invert: true}]}",
    "logs of other phases are not seen": request("{log: [{exact: created, invert: true}]}"),
    "body": "request_body: [{input: {content: ab}, result: {body: [{exact: ab+}], log: [{exact: last chunk}]}}]",
    "bytes in the middle of a chunk": "request_body: [{input: {content: abcd}, result: {body: [{exact: a_cd+}]}}]",
    "body in a number of chunks": "num_chunks: 3\n"
    "response_body: [{input: {content: abcdefg}, result: {body: [{exact: ab+cd+efg+}]}}]",
    "body in chunks of a size": "chunk_size: 2\nrequest_body: [{input: {content: abcde}, "
    "result: {body: [{exact: ab+cd+e+}]}}]",
    "only the last chunk's log": "chunk_size: 2\nrequest_body: [{input: {content: abcd}, "
    "result: {log: [{exact: last chunk}, {exact: chunk, invert: true}]}}]",
    "several bodies": "request_body: [{input: {content: a}, result: {body: [{exact: a+}]}}, "
    "{input: {content: b}, result: {body: [{exact: b+}]}}]",
    "phases after a reply see nothing": request("{immediate: {}}", REPLY)
    + "\nresponse_headers: {input: {header: [{key: x, value: 1}]}, result: {no_header: [{key: x}]}}"
    + "\nresponse_body: [{input: {content: a}, result: {body: [{exact: ''}]}}]",
    "reply from a body": "request_body: [{input: {content: refuse}, "
    "result: {immediate: {http_status: 413}, body: [{exact: too large}]}}]",
    "a reply from a response's body is refused": "response_body: [{input: {content: refuse}, "
    "result: {body: [{exact: r_fuse+}]}}]",
    "response": "response_headers: {input: {header: [{key: ':status', value: 200}, {key: a, value: b}]}, "
    "result: {log: [{exact: response headers 2}, {regex: sees.*, invert: true}]}}",
    "reply to a response": "response_headers: {input: {header: [{key: x-fail, value: 1}]}, "
    "result: {immediate: {http_status: 500}, body: [{exact: failed}]}}",
    "HTTP/1 in origin form": "request_headers: {input: {"
    'content: "GET /p?q HTTP/1.1\\nHost: h\\nX-List: a\\nX-List: b\\n"}, '
    "result: {headers: [{exact: ':method: GET'}, {exact: ':path: /p?q'}, {exact: ':authority: h'}, "
    "{exact: 'x-list: a, b, added'}], no_header: [{key: host}, {key: ':scheme'}]}}",
    "HTTP/1 in absolute form": "request_headers: {input: {"
    'content: "GET https://h:8080/p HTTP/1.1\\r\\nHost: x\\r\\n"}, '
    "result: {headers: [{exact: ':scheme: https'}, {exact: ':path: /p'}, {exact: ':authority: h:8080'}], "
    "no_header: [{key: host}]}}",
    "HTTP/1 response": 'response_headers: {input: {content: "HTTP/1.1 404 Not Found\\nA: b\\n"}, '
    "result: {headers: [{exact: ':status: 404'}, {exact: 'a: b'}]}}",
    "class in a regex": request("{headers: [{regex: 'x-set: [[:alpha:] ]+'}]}"),
    "quoted regex": request(r"{headers: [{regex: '\Qx-set: by plugin\E\z'}]}"),
}

FAIL = {
    "header has another value": (request("{has_header: [{key: x-set, value: other}]}"), "- x-set: other"),
    "header is missing": (request("{has_header: [{key: x-none, value: 1}]}"), "header 'x-none' is missing"),
    "header is there": (request("{no_header: [{key: x-set}]}"), "header 'x-set' is there"),
    "has_header without key": (request("{has_header: [{value: 1}]}"), "has_header without a key"),
    "no such line": (request("{headers: [{exact: 'a: b'}]}"), "expected header"),
    "a regex matches all or nothing": (request("{headers: [{regex: 'x-set'}]}"), "expected header that matches"),
    "a line that must not be": (request("{headers: [{regex: 'x-set.*', invert: true}]}"), "expected no header"),
    "log": (request("{log: [{exact: nothing}]}"), "+ request headers"),
    "log in any phase but this": (request("{log: [{exact: done}]}"), "expected log"),
    "body": ("request_body: [{input: {content: ab}, result: {body: [{exact: ab}]}}]", "+ ab+"),
    "an unexpected reply": (request("{}", REPLY), "the plugin sent an immediate response"),
    "no reply": (request("{immediate: {}}"), "sent no immediate response"),
    "another status": (request("{immediate: {http_status: 200}}", REPLY), "HTTP status"),
    "another gRPC status": (request("{immediate: {grpc_status: 1}}", REPLY), "gRPC status"),
    "other details": (request("{immediate: {details: ''}}", REPLY), "details"),
    "a pause": (request("{}", "{key: x-pause, value: 1}"), "StopAllIterationAndWatermark"),
    "a pause is no reply": (request("{immediate: {}}", "{key: x-pause, value: 1}"), "StopAllIterationAndWatermark"),
    "headers after a reply": (
        request("{immediate: {}}", REPLY)
        + "\nresponse_headers: {input: {header: [{key: x, value: 1}]}, result: {has_header: [{key: x, value: 1}]}}",
        "[response_headers] header 'x' is missing",
    ),
    "a trap": (request("{}", "{key: x-trap, value: 1}"), "sample.c"),
    "bad regex": (request("{headers: [{regex: '[asd'}]}"), "bad regex"),
    "RE2 has no look-around": (request("{headers: [{regex: 'x(?=y)', invert: true}]}"), "look-around"),
    "RE2 has no back-references": (request(r"{headers: [{regex: '(x)\1', invert: true}]}"), "back-references"),
    "unknown class": (request("{headers: [{regex: '[[:foo:]]', invert: true}]}"), "no such class"),
    "empty matcher": (request("{log: [{invert: true}]}"), "needs one of"),
    "missing file": ("request_body: [{input: {file: none}}]", "'none' cannot be read"),
    "missing file to match": (request("{body: [{file: none}]}"), "'none' cannot be read"),
    "file name with a zero byte": (request('{body: [{file: "a\\0b"}]}'), "cannot be read"),
    "no HTTP/1": ("request_headers: {input: {content: hello}}", "no request line"),
    "no HTTP/1 response": ("response_headers: {input: {content: hello}}", "no status line"),
    "bad URI": ('request_headers: {input: {content: "GET a/b HTTP/1.1"}}', "invalid URI"),
    "bad port": ('request_headers: {input: {content: "GET http://a:99999/ HTTP/1.1"}}', "invalid URI"),
    "bad header line": ('request_headers: {input: {content: "GET / HTTP/1.1\\nno header"}}', "no header: "),
    "no chunks": ("num_chunks: 0\nrequest_body: [{input: {content: a}}]", "0 chunks"),
    "more chunks than bytes": ("num_chunks: 3\nrequest_body: [{input: {content: a}}]", "3 chunks"),
    "size of chunks": ("chunk_size: -1\nrequest_body: [{input: {content: a}}]", "chunk_size is -1"),
    "chunks of several bodies": ("chunk_size: 1\nresponse_body: [{}, {}]", "needs a body of one invocation"),
}


def suite(body: str) -> str:
    return "test:\n- name: it\n" + textwrap.indent(body, "  ") + "\n"


@pytest.mark.parametrize("body", PASS.values(), ids=PASS.keys())
def test_passes(run_yaml, body):
    result = run_yaml(suite(body))
    assert result.passed, str(result)


@pytest.mark.parametrize(("body", "why"), FAIL.values(), ids=FAIL.keys())
def test_fails_with_a_reason(run_yaml, body, why):
    result = run_yaml(suite(body))
    assert not result.passed
    assert why in str(result)


def test_the_rest_is_checked_after_a_failure(run_yaml):
    result = run_yaml(suite(request("{has_header: [{key: a, value: b}], log: [{exact: c}]}")))
    assert [failure.phase for failure in result.tests[0].failures] == ["request_headers"] * 2


@pytest.mark.parametrize(("level", "there"), [("DEBUG", True), ("TRACE", True), ("INFO", False), ("ERROR", False)])
def test_log_level(run_yaml, level, there):
    expected = "{exact: only seen at DEBUG" + ("}" if there else ", invert: true}")
    body = suite(request("{log: [" + expected + "]}"))
    assert run_yaml(f"env: {{log_level: {level}}}\n{body}").passed
    assert run_yaml(body, log_level=level.lower()).passed


def test_files_are_beside_the_suite(tmp_path, sample, sample_path):
    folder = tmp_path / "suites"
    folder.mkdir()
    (folder / "head.txt").write_bytes(b"GET /file HTTP/1.1\r\nHost: a\r\n\r\nno: header\n")
    (folder / "body.bin").write_bytes(b"\xff\x00")
    (folder / "after.bin").write_bytes(b"\xff\x00+")
    (folder / "config.txt").write_text("configured so")
    (folder / "suite.textpb").write_text(
        f"""env {{ wasm_path: "{sample_path}" config_path: "config.txt" }}
        test {{
          name: "files"
          plugin_init {{ log {{ exact: "configured so" }} }}
          request_headers {{
            input {{ file: "head.txt" }}
            result {{ has_header {{ key: ":path" value: "/file" }} no_header {{ key: "no" }} }}
          }}
          request_body {{ input {{ file: "body.bin" }} result {{ body {{ file: "after.bin" }} }} }}
        }}"""
    )
    result = run_suite(load_suite(folder / "suite.textpb"))
    assert result.passed, str(result)


@pytest.mark.parametrize(
    ("config", "why"), [("bad", "proxy_on_configure rejected"), ("trap", "proxy_on_configure trapped: unreachable")]
)
def test_plugin_that_does_not_start_fails_the_test(run_yaml, config, why):
    result = run_yaml(suite(request("{}")), config=config)
    assert result.tests[0].failures[0].phase == "plugin_init"
    assert why in str(result)


def test_a_trap_does_not_reach_the_next_test(run_yaml):
    trap = textwrap.indent(request("{}", "{key: x-trap, value: 1}"), "  ")
    result = run_yaml(f"test:\n- name: one\n{trap}\n- name: two\n{textwrap.indent(request('{}'), '  ')}\n")
    assert [test.passed for test in result.tests] == [False, True]


def test_clock_shows_the_given_time(tmp_path):
    wat = tmp_path / "clock.wat"
    wat.write_text(CLOCK)
    path = tmp_path / "suite.yaml"
    for env, seconds in (("time_secs: 123456789", 123456789), ("log_level: INFO", 0)):
        nanoseconds = (seconds * 10**9 or 10**6).to_bytes(8, "little")
        path.write_text(f"env: {{{env}}}\ntest: [{{request_body: [{{input: {{content: x}}}}]}}]")
        loaded = load_suite(path)
        expected = loaded.message.test[0].request_body[0].result.body.add()
        expected.exact = nanoseconds
        result = run_suite(loaded, plugin=Module.load(wat))
        assert result.passed, str(result)


CLOCK = """(module
  (import "env" "proxy_get_current_time_nanoseconds" (func $now (param i32) (result i32)))
  (import "env" "proxy_set_buffer_bytes" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
    (drop (call $now (i32.const 8)))
    (drop (call $set (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8) (i32.const 8)))
    (i32.const 0)))
"""


def test_mock_plugin(tmp_path, mock_module):
    path = tmp_path / "mock.textpb"
    path.write_text(
        """test {
          name: "reply"
          request_headers {
            input { header { key: ":path" value: "/" } header { key: ":authority" value: "foo.com" } }
            result { immediate { http_status: 200 } body { exact: "hello" } }
          }
        }"""
    )
    result = run_suite(load_suite(path), plugin=mock_module, config='{"content": "hello"}')
    assert result.passed, str(result)
    assert not run_suite(load_suite(path), plugin=mock_module, config='{"content": "bye"}').passed
