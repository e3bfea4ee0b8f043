/* Fuzzes how carillonctl shows an answer (tools/ctl/table.h): one JSON text, whose strings are other people's. It
 * holds:
 * - no byte that a terminal obeys is passed on;
 * - an object has a line for each member, and an array a line for each object in it;
 * - a value that is not an empty text is shown. */
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>

#include "../src/base/assert.h"
#include "../tools/ctl/table.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct json_parser *parser;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    ASSERT(setlocale(LC_CTYPE, "C.UTF-8") != NULL);
    parser = json_parser_new(1u << 20);
    return 0;
}

/* check_lines returns how many there are. */
static unsigned check_lines(struct slice text, bool values_shown)
{
    unsigned lines = 0;
    ASSERT(json_utf8_valid(text));
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i], next = i + 1 < text.len ? (unsigned char)text.data[i + 1] : 0;
        ASSERT(c >= ' ' || c == '\n');
        ASSERT(c != 0x7f && !(c == 0xc2 && next < 0xa0)); /* U+0080 … U+009F */
        if (c == '\n' && values_shown) ASSERT(i > 0 && text.data[i - 1] != ' ');
        lines += c == '\n';
    }
    return lines;
}

/* ends_in_space looks for texts that end so, or are empty: in their lines nothing can be told from white space. */
static bool ends_in_space(struct json_node node)
{
    struct slice key;
    struct json_node value;
    struct json_iter i;
    if (json_type_of(node) == JSON_STRING) {
        struct slice text = json_string(node);
        return text.len == 0 || text.data[text.len - 1] == ' ';
    }
    if (json_type_of(node) != JSON_OBJECT) return false;
    for (i = json_object(node); json_object_next(&i, &key, &value);)
        if (ends_in_space(value)) return true;
    return false;
}

/* num_lines counts what object_print shows: members, those of an object in it one by one. */
static unsigned num_lines(struct json_node object, bool inner)
{
    unsigned num = 0;
    struct slice key;
    struct json_node value;
    struct json_iter i = json_object(object);
    while (json_object_next(&i, &key, &value)) {
        bool nested = !inner && json_type_of(value) == JSON_OBJECT;
        unsigned in_it = nested ? num_lines(value, key.len > 0) : 0;
        num += in_it ? in_it : 1;
    }
    return num;
}

static void show_object(struct slice text, struct json_node root)
{
    char *shown = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&shown, &len);
    ASSERT(out != NULL);
    object_print(text, root, NULL, out);
    fclose(out);
    unsigned lines = check_lines(slice_of(shown, len), !ends_in_space(root)), members = num_lines(root, false);
    ASSERT(lines == members || (lines >= 128 && lines < members)); /* no answer has so many */
    free(shown);
}

static void show_table(struct json_node root)
{
    struct table t;
    struct json_node item;
    char *shown = NULL;
    size_t len = 0;
    unsigned rows = 0;
    table_init(&t, "id,name,state,n");
    for (struct json_iter i = json_array(root); json_array_next(&i, &item);) {
        if (json_type_of(item) != JSON_OBJECT) continue;
        table_add(&t, item);
        rows++;
    }
    FILE *out = open_memstream(&shown, &len);
    ASSERT(out != NULL);
    table_print(&t, out);
    fclose(out);
    ASSERT(check_lines(slice_of(shown, len), false) == rows + 1);
    free(shown);
    table_free(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct json_node root;
    if (len > 1u << 20 || json_parse_copy(parser, &root, slice_of(data, len)) != JSON_OK) return 0;
    if (json_type_of(root) == JSON_OBJECT) show_object(slice_of(data, len), root);
    if (json_type_of(root) == JSON_ARRAY) show_table(root);
    return 0;
}
