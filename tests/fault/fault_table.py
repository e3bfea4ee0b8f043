"""The table of faults that carillon-faults shares with the test that orders them (faults/table.h has its layout)."""
import mmap
import os
import struct
import subprocess

OFF, ONCE, FOR_GOOD = 0, 1, 2
SITES_AT, SITE_BYTES, SITES_MAX = 64, 64, 64
CALLERS_AT, CALLERS = SITES_AT + SITE_BYTES * SITES_MAX, 16384
NUM_SITES, RECORDING, MEMORY_CALLER, MEMORY_MODE, MEMORY_FAILED = range(5)  # words of 8 bytes


class Table:
    """Make it before the gateway starts with `environment`; names are there once it has started."""

    def __init__(self, directory):
        self.path = os.path.join(directory, "faults")
        self.environment = {"CARILLON_FAULTS": self.path}
        size = CALLERS_AT + CALLERS * 16
        with open(self.path, "wb") as file:
            file.truncate(size)
        self.file = open(self.path, "r+b")
        self.map = mmap.mmap(self.file.fileno(), size)

    def word(self, index):
        return struct.unpack_from("=Q", self.map, index * 8)[0]

    def set_word(self, index, value):
        struct.pack_into("=Q", self.map, index * 8, value)

    def names(self):
        return [self.map[at:at + 40].split(b"\0", 1)[0].decode()
                for at in range(SITES_AT, SITES_AT + SITE_BYTES * self.word(NUM_SITES), SITE_BYTES)]

    def _at(self, name):
        return SITES_AT // 8 + 8 * self.names().index(name)

    def order(self, name, mode):
        self.set_word(self._at(name) + 5, mode)

    def failed(self, name):
        return self.word(self._at(name) + 7)

    def order_memory(self, address, mode):
        self.set_word(MEMORY_MODE, OFF)
        self.set_word(MEMORY_FAILED, 0)
        self.set_word(MEMORY_CALLER, address)
        self.set_word(MEMORY_MODE, mode)

    def memory_failed(self):
        return self.word(MEMORY_FAILED)

    def record_callers(self, on):
        self.set_word(RECORDING, int(on))

    def callers(self):
        """Return addresses of those who allocated while recording."""
        every = struct.iter_unpack("=QQ", self.map[CALLERS_AT:])
        return sorted(address for address, passed in every if passed)


def places(pid, addresses):
    """{address: (module, name)} in a running process; the name is a source line where the module tells it."""
    found, modules = {}, {}
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        ranges = [(*(int(part, 16) for part in fields[0].split("-")), int(fields[2], 16), fields[5])
                  for fields in (line.split() for line in maps) if len(fields) == 6 and "x" in fields[1]]
    for address in addresses:
        for begin, end, offset, path in ranges:
            if begin <= address < end:
                modules.setdefault(path, []).append((address, address - begin + offset))
    for path, inside in modules.items():
        module = os.path.basename(path)
        for address, offset in inside:
            found[address] = (module, f"{module}+{offset:#x}")
        if module == "carillon-faults":
            # a return address stands behind the call, hence one less
            done = subprocess.run(["addr2line", "-e", path, *(f"{offset - 1:#x}" for _, offset in inside)],
                                  stdout=subprocess.PIPE, text=True, check=True)
            for (address, _), line in zip(inside, done.stdout.splitlines()):
                line = line.split(" (discriminator")[0]
                found[address] = (module, "/".join(line.rsplit("/", 2)[-2:]))
    return found
