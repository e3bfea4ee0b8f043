# cmake -D OUTPUT=page_files.c -D SOURCES=… -P EmbedPage.cmake: writes the table of src/api/page_files.h.
set(type_html "text/html; charset=utf-8")
set(type_css "text/css; charset=utf-8")
set(type_js "text/javascript; charset=utf-8")
set(type_svg "image/svg+xml")

set(folder ${SOURCES}/tools/web)
file(GLOB names RELATIVE ${folder} ${folder}/*.html ${folder}/*.css ${folder}/*.js ${folder}/*.svg)
set(arrays "")
set(rows "")
set(number 0)
foreach(name IN LISTS names)
  string(REGEX MATCH "[a-z]+$" ending ${name})
  file(READ ${folder}/${name} bytes HEX)
  file(SHA256 ${folder}/${name} digest)
  string(SUBSTRING ${digest} 0 32 etag)
  string(LENGTH "${bytes}" length)
  math(EXPR length "${length} / 2")
  string(REGEX REPLACE "(................................)" "\\1\n" bytes "${bytes}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  string(APPEND arrays "static const unsigned char file_${number}[] = { /* ${name} */\n${bytes}\n};\n\n")
  string(APPEND rows "    {\"${name}\", \"${type_${ending}}\", \"\\\"${etag}\\\"\", {(const char *)file_${number}, ${length}}},\n")
  math(EXPR number "${number} + 1")
endforeach()
file(WRITE ${OUTPUT} "/* Written by cmake/EmbedPage.cmake from tools/web. */
#include \"${SOURCES}/src/api/page_files.h\"

${arrays}const struct page_file page_files[] = {
${rows}};
const unsigned num_page_files = ${number};
")
