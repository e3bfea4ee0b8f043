/* page_files: the files of tools/web as they were at the build (cmake/Page.cmake writes the table). */
#ifndef CARILLON_API_PAGE_FILES_H
#define CARILLON_API_PAGE_FILES_H

#include "../base/slice.h"

struct page_file {
    const char *name;         /* "app.js" */
    const char *content_type;
    const char *etag;         /* of the content, with its quotes */
    struct slice content;
};
extern const struct page_file page_files[];
extern const unsigned num_page_files;

#endif
