//! Asks a server behind a call-out whether a request may pass, and pauses the request until it answers.
//!
//! `x-auth` says where to ask: `callout`, `refused` (a cluster whose port is closed) or `unknown` (no such cluster).
//! A 2xx answer lets the request pass with the answer's `x-user`; anything else becomes the reply. The number of
//! requests of one `x-key` is kept in shared data.

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, Bytes, ContextType, LogLevel, Status};
use std::time::Duration;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(AuthRoot));
}}

struct AuthRoot;

impl Context for AuthRoot {}

impl RootContext for AuthRoot {
    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Auth::default()))
    }
}

#[derive(Default)]
struct Auth {
    case: String,
    answered: Option<String>,
}

impl Auth {
    fn note(&self, text: &str) {
        hostcalls::log(LogLevel::Warn, &format!("{} {}", self.case, text)).unwrap();
    }

    /// Counts with compare-and-swap, as several VMs would have to.
    fn count(&self, key: &str) -> u32 {
        loop {
            let (value, cas) = self.get_shared_data(key);
            let count = value.map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().unwrap_or_default())) + 1;
            match self.set_shared_data(key, Some(&count.to_le_bytes()), cas) {
                Ok(()) => return count,
                Err(Status::CasMismatch) => continue,
                Err(status) => panic!("set_shared_data: {:?}", status),
            }
        }
    }
}

impl Context for Auth {
    fn on_http_call_response(&mut self, _: u32, headers: usize, body_size: usize, trailers: usize) {
        let status = self.get_http_call_response_header(":status").unwrap_or_default();
        self.note(&format!("answer {} {} {} {}", status, headers > 0, body_size, trailers));
        if status.starts_with('2') {
            let user = self.get_http_call_response_header("x-user");
            self.set_http_request_header("x-user", user.as_deref());
            self.answered = Some(status);
            self.resume_http_request();
            return;
        }
        let body: Bytes = self.get_http_call_response_body(0, body_size).unwrap_or_default();
        // A host has no trailers to ask when none came, and the SDK takes that for a fatal error.
        let trailer = if trailers > 0 { self.get_http_call_response_trailer("x-reason") } else { None };
        let trailer = trailer.unwrap_or_else(|| "none".to_string());
        self.send_http_response(403, vec![("x-auth-status", &status), ("x-reason", &trailer)], Some(&body));
    }

    fn on_done(&mut self) -> bool {
        self.note("done");
        true
    }
}

impl HttpContext for Auth {
    fn on_http_request_headers(&mut self, count: usize, end: bool) -> Action {
        self.case = self.get_http_request_header("x-case").unwrap_or_default();
        self.note(&format!("request headers {} {}", count, end));
        if let Some(key) = self.get_http_request_header("x-key") {
            let count = self.count(&key).to_string();
            self.set_http_request_header("x-count", Some(&count));
        }
        let cluster = match self.get_http_request_header("x-auth") {
            Some(cluster) => cluster,
            None => return Action::Continue,
        };
        let path = self.get_http_request_header(":path").unwrap_or_default();
        let call = vec![
            (":method", "POST"),
            (":path", path.as_str()),
            (":authority", "auth.test"),
            ("x-case", self.case.as_str()),
        ];
        let body = path.clone().into_bytes();
        let sent = self.dispatch_http_call(&cluster, call, Some(&body), vec![], Duration::from_millis(100));
        match sent {
            Ok(_) => Action::Pause,
            Err(status) => {
                self.note(&format!("call failed {:?}", status));
                self.send_http_response(500, vec![("x-call", "failed")], Some(b"no call"));
                Action::Pause
            }
        }
    }

    fn on_http_request_body(&mut self, _: usize, end: bool) -> Action {
        if self.answered.is_some() && end {
            self.note("body after answer");
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        if let Some(status) = self.answered.take() {
            self.add_http_response_header("x-auth-status", &status);
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        self.note("log");
        self.note("x enter");
    }
}
