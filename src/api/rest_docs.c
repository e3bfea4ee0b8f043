/* rest_docs: the interface's own description, embedded at build time: docs/openapi.yaml and a page that shows it. */
#include "api.h"
#include "embedded/docs_html.h"
#include "embedded/openapi_yaml.h"

/* It changes with the program, and then at once. */
#define NO_CACHE SLICE("Cache-Control: no-cache\r\n")

void rest_openapi(struct call *call)
{
    rest_reply(call->core, call->conn, call->route, call->core->now_ns, 200, "application/yaml; charset=utf-8",
               NO_CACHE, embedded_openapi_yaml);
}

/* The page brings everything along; nothing else may run in it or be fetched from elsewhere. */
void rest_docs(struct call *call)
{
    rest_reply(call->core, call->conn, call->route, call->core->now_ns, 200, "text/html; charset=utf-8",
               SLICE("Cache-Control: no-cache\r\nContent-Security-Policy: default-src 'none'; connect-src 'self'; "
                     "script-src 'unsafe-inline'; style-src 'unsafe-inline'\r\n"),
               embedded_docs_html);
}
