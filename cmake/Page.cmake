# The files of tools/web go into the binary: PAGE_SOURCE is made from them whenever one of them changes.
set(PAGE_FOLDER ${CMAKE_SOURCE_DIR}/tools/web)
set(PAGE_SOURCE ${CMAKE_BINARY_DIR}/page_files.c)
file(GLOB PAGE_FILES CONFIGURE_DEPENDS ${PAGE_FOLDER}/*.html ${PAGE_FOLDER}/*.css ${PAGE_FOLDER}/*.js ${PAGE_FOLDER}/*.svg)
add_custom_command(
  OUTPUT ${PAGE_SOURCE}
  COMMAND ${CMAKE_COMMAND} -D OUTPUT=${PAGE_SOURCE} -D SOURCES=${CMAKE_SOURCE_DIR} -P ${CMAKE_SOURCE_DIR}/cmake/EmbedPage.cmake
  DEPENDS ${PAGE_FILES} ${CMAKE_SOURCE_DIR}/cmake/EmbedPage.cmake
  COMMENT "Embedding tools/web")
