# carillon_embed(target name file) puts a file into the target's read-only data, byte by byte: `embedded_<name>` of type
# `const struct slice`, declared in "embedded/<name>.h". It is made again when the file has changed.
function(carillon_embed target name file)
  get_filename_component(file ${file} ABSOLUTE BASE_DIR ${CMAKE_SOURCE_DIR})
  set(stem ${CMAKE_BINARY_DIR}/embedded/${name})
  add_custom_command(
    OUTPUT ${stem}.c ${stem}.h
    COMMAND ${CMAKE_COMMAND} -DNAME=${name} -DFILE=${file} -DSTEM=${stem}
            -P ${CMAKE_SOURCE_DIR}/cmake/EmbedFile.cmake
    DEPENDS ${file} ${CMAKE_SOURCE_DIR}/cmake/EmbedFile.cmake
    VERBATIM)
  target_sources(${target} PRIVATE ${stem}.c ${stem}.h)
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
endfunction()
