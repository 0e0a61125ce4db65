//! Changes bodies while they pass or once they are whole, as the header `x-body` says.
//!
//! `upper`: every chunk in capitals, as it comes. `reverse`: the whole body, turned round. `drop`: the body replaced by
//! nothing. `frame`: `<` before the first chunk, `>` after the last.

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(BodyRoot));
}}

struct BodyRoot;

impl Context for BodyRoot {}

impl RootContext for BodyRoot {
    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Body::default()))
    }
}

#[derive(Default)]
struct Body {
    case: String,
    mode: String,
    request_started: bool,
    response_started: bool,
}

/// What to do with one piece of a body: the bytes to replace it with, or wait for more.
enum Step {
    Pass,
    Wait,
    Replace(Vec<u8>),
}

fn step(mode: &str, first: bool, end: bool, data: Vec<u8>) -> Step {
    match mode {
        "upper" => Step::Replace(data.to_ascii_uppercase()),
        "drop" => Step::Replace(Vec::new()),
        "reverse" if !end => Step::Wait,
        "reverse" => Step::Replace(data.into_iter().rev().collect()),
        "frame" => {
            let mut framed = data;
            if first {
                framed.insert(0, b'<');
            }
            if end {
                framed.push(b'>');
            }
            Step::Replace(framed)
        }
        _ => Step::Pass,
    }
}

impl Body {
    fn note(&self, text: &str) {
        hostcalls::log(LogLevel::Warn, &format!("{} {}", self.case, text)).unwrap();
    }
}

impl Context for Body {}

impl HttpContext for Body {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        self.case = self.get_http_request_header("x-case").unwrap_or_default();
        self.mode = self.get_http_request_header("x-body").unwrap_or_default();
        self.set_http_request_header("content-length", None);
        Action::Continue
    }

    fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
        self.note(&format!("request body {} {}", size, end));
        let first = !std::mem::replace(&mut self.request_started, true);
        let data = self.get_http_request_body(0, size).unwrap_or_default();
        match step(&self.mode, first, end, data) {
            Step::Pass => Action::Continue,
            Step::Wait => Action::Pause,
            Step::Replace(data) => {
                self.set_http_request_body(0, size, &data);
                Action::Continue
            }
        }
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.set_http_response_header("content-length", None);
        self.add_http_response_header("x-body", &self.mode);
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end: bool) -> Action {
        self.note(&format!("response body {} {}", size, end));
        let first = !std::mem::replace(&mut self.response_started, true);
        let data = self.get_http_response_body(0, size).unwrap_or_default();
        match step(&self.mode, first, end, data) {
            Step::Pass => Action::Continue,
            Step::Wait => Action::Pause,
            Step::Replace(data) => {
                self.set_http_response_body(0, size, &data);
                Action::Continue
            }
        }
    }

    fn on_log(&mut self) {
        self.note("x enter");
    }
}
