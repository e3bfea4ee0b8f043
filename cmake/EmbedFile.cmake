# Writes STEM.c and STEM.h, which hold the bytes of FILE as embedded_NAME. Run by carillon_embed while building.
file(READ ${FILE} bytes HEX)
string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n" bytes "${bytes}")
file(WRITE ${STEM}.h "#include \"src/base/slice.h\"\n\nextern const struct slice embedded_${NAME};\n")
file(WRITE ${STEM}.c "#include \"embedded/${NAME}.h\"\n
static const unsigned char bytes[] = {\n${bytes}\n};\n
const struct slice embedded_${NAME} = {(const char *)bytes, sizeof bytes};\n")
