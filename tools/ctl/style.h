/* style: colours for people: empty texts when the stream is no terminal, or NO_COLOR is set (no-color.org). */
#ifndef CARILLON_TOOLS_CTL_STYLE_H
#define CARILLON_TOOLS_CTL_STYLE_H

#include <stdio.h>

enum style { STYLE_END, STYLE_HEAD, STYLE_FAINT, STYLE_GOOD, STYLE_WARNING, STYLE_BAD, STYLES };

const char *style(FILE *out, enum style s);
/* style_memory treats streams in memory as what stdout is from now on: that is where they go. */
void style_memory(void);
/* style_person returns a colour that is always the same for a name. */
const char *style_person(FILE *out, const char *name, size_t len);

#endif
