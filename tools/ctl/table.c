#define _GNU_SOURCE /* wcwidth */
#include "table.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "../../src/base/assert.h"
#include "style.h"

#define OBJECT_LINES_MAX 128u /* of one answer; the longest has a quarter of that */

static void cell_text(struct buf *out, struct json_node node);
static void pad(FILE *out, size_t width, size_t used);

void table_init(struct table *t, const char *columns)
{
    *t = (struct table){0};
    while (*columns) {
        size_t len = strcspn(columns, ",");
        ASSERT(t->num_columns < TABLE_COLUMNS_MAX);
        t->names[t->num_columns++] = slice_of(columns, len);
        columns += len + (columns[len] == ',');
    }
}

void table_free(struct table *t)
{
    for (size_t i = 0; i < t->num_rows * t->num_columns; i++) buf_free(&t->cells[i]);
    free(t->cells);
    *t = (struct table){0};
}

void table_add(struct table *t, struct json_node object)
{
    t->cells = realloc(t->cells, (t->num_rows + 1) * t->num_columns * sizeof *t->cells);
    ASSERT(t->cells);
    struct buf *row = &t->cells[t->num_rows++ * t->num_columns];
    for (unsigned c = 0; c < t->num_columns; c++) {
        char name[64];
        struct json_node node;
        snprintf(name, sizeof name, "%.*s", SLICE_FMT(t->names[c]));
        row[c] = (struct buf){0};
        if (json_get(object, name, &node)) cell_text(&row[c], node);
        else BUF_LIT(&row[c], "-");
    }
}

void table_print(const struct table *t, FILE *out)
{
    size_t widths[TABLE_COLUMNS_MAX];
    for (unsigned c = 0; c < t->num_columns; c++) {
        widths[c] = t->names[c].len;
        for (size_t r = 0; r < t->num_rows; r++) {
            size_t columns = text_columns(buf_slice(&t->cells[r * t->num_columns + c]));
            if (columns > widths[c]) widths[c] = columns;
        }
    }
    fputs(style(out, STYLE_HEAD), out);
    for (unsigned c = 0; c < t->num_columns; c++) {
        for (size_t i = 0; i < t->names[c].len; i++) fputc(toupper((unsigned char)t->names[c].data[i]), out);
        if (c + 1 < t->num_columns) pad(out, widths[c], t->names[c].len);
    }
    fprintf(out, "%s\n", style(out, STYLE_END));
    for (size_t r = 0; r < t->num_rows; r++) {
        for (unsigned c = 0; c < t->num_columns; c++) {
            struct slice text = buf_slice(&t->cells[r * t->num_columns + c]);
            fwrite(text.data, 1, text.len, out);
            if (c + 1 < t->num_columns) pad(out, widths[c], text_columns(text));
        }
        fputc('\n', out);
    }
}

static void value_text(struct buf *out, struct slice raw, struct json_node value)
{
    enum json_type type = json_type_of(value);
    out->len = 0;
    if (type == JSON_STRING || type == JSON_NULL) cell_text(out, value);
    else text_shown(out, raw);
}

/* lines: the members of an object as text: name, value, name, value. An object in it is shown member by member, as
 * "outer.inner"; what lies deeper as JSON. */
struct lines {
    unsigned num;
    struct buf names[OBJECT_LINES_MAX], values[OBJECT_LINES_MAX];
    bool figures; /* all values are */
};

static void lines_take(struct lines *l, struct slice text, struct json_node object, const char *without,
                       struct slice outer)
{
    struct slice name;
    struct json_node value;
    struct json_iter i = json_object(object);
    for (size_t index = 0; json_object_next(&i, &name, &value); index++) {
        if ((without && slice_is(name, without)) || l->num == OBJECT_LINES_MAX) continue;
        /* by its place: a name may be long, repeated or written with escapes */
        struct slice raw = json_raw_at(text, index);
        if (json_type_of(value) == JSON_OBJECT && !outer.len) {
            unsigned before = l->num;
            lines_take(l, raw, value, NULL, name);
            if (l->num > before) continue; /* an empty one stands for itself */
        }
        struct buf *shown = &l->names[l->num];
        *shown = l->values[l->num] = (struct buf){0};
        text_shown(shown, outer);
        if (outer.len) buf_char(shown, '.');
        text_shown(shown, name);
        value_text(&l->values[l->num++], raw, value);
        l->figures = l->figures && (json_type_of(value) == JSON_NUMBER || json_type_of(value) == JSON_BOOL);
    }
}

void object_print(struct slice text, struct json_node object, const char *without, FILE *out)
{
    struct lines l = {.figures = true};
    size_t names_width = 0, values_width = 0;
    lines_take(&l, text, object, without, (struct slice){0});
    for (unsigned i = 0; i < l.num; i++) {
        size_t name_width = text_columns(buf_slice(&l.names[i]));
        if (name_width > names_width) names_width = name_width;
        if (l.values[i].len > values_width) values_width = l.values[i].len;
    }
    for (unsigned i = 0; i < l.num; i++) {
        fprintf(out, "%.*s", SLICE_FMT(buf_slice(&l.names[i])));
        pad(out, names_width, text_columns(buf_slice(&l.names[i])));
        fprintf(out, "%*.*s\n", l.figures ? (int)values_width : 0, SLICE_FMT(buf_slice(&l.values[i])));
        buf_free(&l.names[i]);
        buf_free(&l.values[i]);
    }
}

void text_shown(struct buf *out, struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        bool c1 = c == 0xC2 && i + 1 < text.len && (unsigned char)text.data[i + 1] < 0xA0; /* U+0080 … U+009F */
        if (c == '\n') BUF_LIT(out, "\\n");
        else if (c == '\t') BUF_LIT(out, "\\t");
        else if (c < 0x20 || c == 0x7F) buf_printf(out, "\\x%02x", c);
        else if (c1) buf_printf(out, "\\x%02x", (unsigned char)text.data[++i]);
        else buf_char(out, (char)c);
    }
}

size_t text_columns(struct slice text)
{
    size_t columns = 0;
    mbstate_t state = {0};
    while (text.len) {
        wchar_t wide;
        size_t len = mbrtowc(&wide, text.data, text.len, &state);
        if (len == 0 || len > text.len) return columns + json_utf8_chars(text); /* another locale, or cut off */
        int width = wcwidth(wide);
        columns += width > 0 ? (size_t)width : 0;
        text = slice_from(text, len);
    }
    return columns;
}

static void cell_text(struct buf *out, struct json_node node)
{
    uint64_t number;
    bool flag;
    switch (json_type_of(node)) {
    case JSON_NULL: BUF_LIT(out, "-"); return;
    case JSON_BOOL:
        if (json_bool(node, &flag)) buf_printf(out, "%s", flag ? "yes" : "no");
        return;
    case JSON_NUMBER:
        if (json_u64(node, &number)) buf_u64(out, number);
        else BUF_LIT(out, "…");
        return;
    case JSON_STRING: text_shown(out, json_string(node)); return;
    case JSON_ARRAY:
    case JSON_OBJECT: BUF_LIT(out, "…"); return;
    }
    UNREACHABLE();
}

static void pad(FILE *out, size_t width, size_t used)
{
    fprintf(out, "%*s", (int)(width > used ? width - used : 0) + 2, "");
}
