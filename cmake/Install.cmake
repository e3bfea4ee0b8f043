# `cmake --install build/release --prefix /usr`: programs, manual pages, completions, the service with its user, and a
# configuration file, which an upgrade leaves as it is. DESTDIR works as ever.
include(GNUInstallDirs)

# GNUInstallDirs knows the prefix of the configuration; the service must name the paths of the installation.
set(CARILLON_PROGRAMS carillon carillonctl carillon-load)
install(TARGETS ${CARILLON_PROGRAMS} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

install(DIRECTORY ${CMAKE_SOURCE_DIR}/tools/man/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 OPTIONAL
        FILES_MATCHING PATTERN "*.1")
install(DIRECTORY ${CMAKE_SOURCE_DIR}/tools/man/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man5 OPTIONAL
        FILES_MATCHING PATTERN "*.5")

# Shells look for a completion under the program's name.
file(GLOB_RECURSE BASH_COMPLETIONS CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tools/completions/*.bash)
foreach(completion ${BASH_COMPLETIONS})
  get_filename_component(program ${completion} NAME_WE)
  install(FILES ${completion} DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME ${program})
endforeach()
file(GLOB_RECURSE ZSH_COMPLETIONS CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tools/completions/_*)
install(FILES ${ZSH_COMPLETIONS} DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
file(GLOB_RECURSE FISH_COMPLETIONS CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tools/completions/*.fish)
install(FILES ${FISH_COMPLETIONS} DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)

install(FILES ${CMAKE_SOURCE_DIR}/tools/systemd/carillon.sysusers DESTINATION lib/sysusers.d RENAME carillon.conf)
install(FILES ${CMAKE_SOURCE_DIR}/tools/systemd/carillon.tmpfiles DESTINATION lib/tmpfiles.d RENAME carillon.conf)
install(FILES ${CMAKE_SOURCE_DIR}/LICENSE ${CMAKE_SOURCE_DIR}/README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY ${CMAKE_SOURCE_DIR}/docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs)
# What the documents point to: the examples for operators, what was measured, and each folder's README.
install(DIRECTORY ${CMAKE_SOURCE_DIR}/tools/proxy ${CMAKE_SOURCE_DIR}/tools/observe ${CMAKE_SOURCE_DIR}/tools/web
        DESTINATION ${CMAKE_INSTALL_DOCDIR}/tools)
install(FILES ${CMAKE_SOURCE_DIR}/perf/RESULTS.md DESTINATION ${CMAKE_INSTALL_DOCDIR}/perf)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/perf/flames DESTINATION ${CMAKE_INSTALL_DOCDIR}/perf)
file(GLOB FOLDER_READMES CONFIGURE_DEPENDS RELATIVE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/[a-z]*/README.md
     ${CMAKE_SOURCE_DIR}/tests/[a-z]*/README.md)
list(FILTER FOLDER_READMES EXCLUDE REGEX "^(build|docs)/")
foreach(readme ${FOLDER_READMES})
  get_filename_component(folder ${readme} DIRECTORY)
  install(FILES ${CMAKE_SOURCE_DIR}/${readme} DESTINATION ${CMAKE_INSTALL_DOCDIR}/${folder})
endforeach()
install(SCRIPT ${CMAKE_SOURCE_DIR}/cmake/InstallService.cmake)
