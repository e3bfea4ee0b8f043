/* ids: the opaque text names of what the server numbers.
 *
 *   room     r_ + 13 characters      tenant   t_ + 13 characters      message  m_ + 13 characters + _ + seq
 *
 * The characters are the number, mixed by a fixed bijection and written in base 32, so ids carry their number (no
 * look-up) without showing how many there are. They are no secret: every access is checked against the tenant. */
#ifndef CARILLON_CHAT_IDS_H
#define CARILLON_CHAT_IDS_H

#include "../base/slice.h"

#define ID_TEXT_LEN 15u          /* "r_" and 13 characters */
#define MESSAGE_ID_TEXT_MAX 36u  /* "m_", 13 characters, "_", up to 20 digits */

/* writers return the end; nothing is NUL-terminated */
char *room_id_text(char *out, uint64_t room);
char *tenant_id_text(char *out, uint32_t tenant);
char *message_id_text(char *out, uint64_t room, uint64_t seq);

/* notification: n_ + 13 characters; dead letter: d_ + 3 × 13 characters, of tenant, notification and user */
#define DEAD_LETTER_ID_TEXT_LEN 41u
char *notification_id_text(char *out, uint64_t number);
char *dead_letter_id_text(char *out, uint32_t tenant, uint64_t number, uint64_t user);

/* parsers accept exactly what the writers produce */
bool room_id_parse(struct slice text, uint64_t *room);
bool tenant_id_parse(struct slice text, uint32_t *tenant);
bool message_id_parse(struct slice text, uint64_t *room, uint64_t *seq);
bool notification_id_parse(struct slice text, uint64_t *number);
bool dead_letter_id_parse(struct slice text, uint32_t *tenant, uint64_t *number, uint64_t *user);

#endif
