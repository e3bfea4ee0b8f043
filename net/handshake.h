/* handshake: the list fields of a WebSocket's opening request, by their grammar. Pure: a request in, a verdict out.
 *
 * RFC 6455 has a server refuse a handshake whose fields break their grammar (section 4.2.1), and whoever receives
 * malformed extensions fail the connection (section 9.1), even where nothing that was offered is taken. A list may be
 * spread over several fields, and its empty elements are passed over (RFC 9110 section 5.6.1). */
#ifndef CARILLON_NET_HANDSHAKE_H
#define CARILLON_NET_HANDSHAKE_H

#include "http.h"

/* handshake_protocols_valid: Sec-WebSocket-Protocol, if there is one, is 1#token (section 11.3.4). */
bool handshake_protocols_valid(const struct http_request *request);
/* handshake_offers says whether Sec-WebSocket-Protocol names `protocol`, in this very case. */
bool handshake_offers(const struct http_request *request, const char *protocol);
/* handshake_extensions_valid: Sec-WebSocket-Extensions, if there is one, is
 *
 *   1#( token *( ";" token [ "=" ( token | quoted-string of a token ) ] ) )          (section 9.1) */
bool handshake_extensions_valid(const struct http_request *request);

#endif
