// Changes headers and trailers of requests and responses, and answers by itself, as the request's headers say.
// On the SDK's own classes; everything is done the way its examples do.
export * from "@solo-io/proxy-runtime/proxy";
import {
  Context,
  FilterDataStatusValues,
  FilterHeadersStatusValues,
  FilterTrailersStatusValues,
  GrpcStatusValues,
  HeaderPair,
  log,
  LogLevelValues,
  registerRootContext,
  RootContext,
  send_local_response,
  stream_context,
} from "@solo-io/proxy-runtime";

class HeadersRoot extends RootContext {
  createContext(id: u32): Context {
    return new HeadersContext(id, this);
  }
}

class HeadersContext extends Context {
  case_id: string = "";
  requestTrailers: bool = false;

  onRequestHeaders(count: u32, end: bool): FilterHeadersStatusValues {
    const headers = stream_context.headers.request;
    this.case_id = headers.get("x-case");
    this.note("request headers " + count.toString() + " " + end.toString());
    const wanted = headers.get("x-as-reply");
    if (wanted != "") {
      const extra = [new HeaderPair(String.UTF8.encode("x-as"), String.UTF8.encode("local"))];
      send_local_response(<u32>parseInt(wanted), "as", String.UTF8.encode("from assembly"), extra, GrpcStatusValues.InvalidCode);
      return FilterHeadersStatusValues.StopIteration;
    }
    headers.add("x-as-added", "one");
    headers.add("x-as-added", "two");
    headers.replace("x-as-replace", "replaced");
    headers.remove("x-as-remove");
    headers.replace(":path", headers.get(":path") + (headers.get(":path").includes("?") ? "&" : "?") + "as=1");
    return FilterHeadersStatusValues.Continue;
  }

  onRequestBody(size: usize, end: bool): FilterDataStatusValues {
    this.note("request body " + size.toString() + " " + end.toString());
    return FilterDataStatusValues.Continue;
  }

  onRequestTrailers(count: u32): FilterTrailersStatusValues {
    this.note("request trailers " + count.toString());
    stream_context.trailers.request.add("x-as-trailer", "request");
    return FilterTrailersStatusValues.Continue;
  }

  onResponseHeaders(count: u32, end: bool): FilterHeadersStatusValues {
    this.note("response headers " + count.toString() + " " + end.toString());
    const headers = stream_context.headers.response;
    const pairs = headers.get_headers();
    let names = "";
    for (let i = 0; i < pairs.length; i++) names += String.UTF8.decode(pairs[i].key) + ";";
    headers.remove("x-as-remove");
    headers.replace("x-as-replace", "replaced");
    headers.add("x-as-names", names);
    return FilterHeadersStatusValues.Continue;
  }

  onResponseTrailers(count: u32): FilterTrailersStatusValues {
    this.note("response trailers " + count.toString());
    stream_context.trailers.response.remove("x-as-remove");
    stream_context.trailers.response.add("x-as-trailer", "response");
    return FilterTrailersStatusValues.Continue;
  }

  onDelete(): void {
    this.note("x enter");
  }

  note(text: string): void {
    log(LogLevelValues.warn, this.case_id + " " + text);
  }
}

registerRootContext((id: u32) => new HeadersRoot(id), "as-headers");
