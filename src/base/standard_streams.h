/* standard_streams: descriptors 0 to 2 are what everybody takes them for.
 *
 * A program may be started with some of them closed. Then the first files that it opens get these numbers, and what is
 * written to stderr ends up in one of them. Called first in main, by every program. */
#ifndef CARILLON_BASE_STANDARD_STREAMS_H
#define CARILLON_BASE_STANDARD_STREAMS_H

/* standard_streams_open opens /dev/null in the place of those that are closed. */
void standard_streams_open(void);

#endif
