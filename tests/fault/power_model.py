"""What a power loss leaves of a directory, worked out from the journal that preload_power.c wrote.

The model is the strict one of POSIX: the content of a file is as of its last fsync or fdatasync, and a name (created,
renamed, linked or removed) is as of the last fsync of its directory. What came after may have reached the disk or not:
for each file a random prefix of its unsynced writes is kept, the last of them torn at a random byte, and for each
directory a random prefix of its unsynced name changes. Directories themselves are taken as durable.

A sync that failed lost the writes before it: the kernel has marked their pages clean, so they are never on the disk, though
the process reads them and a later sync succeeds. Sizes are kept, since they are metadata: what is lost reads as before, or
as zeros.
"""
import os
import random
import shutil
import struct

OPEN, WRITE, TRUNCATE, EXTEND, SYNC, SYNCED, RENAME, LINK, UNLINK, FAILED = range(1, 11)
CREATED, DIRECTORY = 1, 2
HEAD = struct.Struct("<IBBHQQ")  # length, kind, flags, path_len, inode, a


def read_journal(path):
    """Yields (kind, flags, inode, a, path, data); the record that the kill cut off is left out."""
    if not os.path.exists(path):
        return  # cut before the process had written anything: there is nothing to take back
    with open(path, "rb") as journal:
        while True:
            head = journal.read(HEAD.size)
            if len(head) < HEAD.size:
                return
            length, kind, flags, path_len, inode, a = HEAD.unpack(head)
            rest = journal.read(length - HEAD.size)
            if len(rest) < length - HEAD.size:
                return
            yield kind, flags, inode, a, rest[:path_len].decode(), rest[path_len:]


class File:
    """One inode: durable bytes, and what was done since, in order."""

    def __init__(self, source=None):
        self.source = source  # the snapshot's file; read only when the file is changed
        self.content = None if source else bytearray()
        self.pending = []     # (kind, a, data)
        self.dropped = 0      # operations that became durable before pending[0]
        self.marks = {}       # ticket of a running sync -> operations that it covers

    def load(self):
        if self.content is None:
            with open(self.source, "rb") as source:
                self.content = bytearray(source.read())

    def apply(self, operations):
        for kind, a, data in operations:
            self.load()
            if kind == WRITE:
                if len(self.content) < a:
                    self.content.extend(bytes(a - len(self.content)))
                self.content[a:a + len(data)] = data
            elif kind == TRUNCATE:
                del self.content[a:]
                self.content.extend(bytes(a - len(self.content)))
            else:
                self.content.extend(bytes(max(0, a - len(self.content))))

    def sync_began(self, ticket):
        self.marks[ticket] = self.dropped + len(self.pending)

    def sync_ended(self, ticket):
        count = self.marks.pop(ticket) - self.dropped
        if count > 0:  # another sync may have covered it
            self.apply(self.pending[:count])
            del self.pending[:count]
            self.dropped += count

    def sync_failed(self):
        self.pending = [(EXTEND, a + len(data), b"") if kind == WRITE else (kind, a, data)
                        for kind, a, data in self.pending]

    def lose_power(self, rng):
        """Keeps a random part of what was not synced; returns how many operations were lost or torn."""
        kept = rng.choice([0, len(self.pending), rng.randint(0, len(self.pending))])
        lost = len(self.pending) - kept
        self.apply(self.pending[:kept])
        if kept < len(self.pending) and self.pending[kept][0] == WRITE and rng.random() < 0.5:
            kind, a, data = self.pending[kept]
            self.apply([(kind, a, data[:rng.randint(0, len(data))])])
        self.pending = []
        return lost


class Directory:
    """The names of one directory: changes that its next fsync makes durable."""

    def __init__(self):
        self.pending = []  # each a list of (name, File or None)
        self.dropped = 0
        self.marks = {}


class Model:
    def __init__(self, snapshot):
        self.files = {}        # inode -> File
        self.directories = {}  # relative path -> Directory
        self.directory_of = {} # inode -> relative path
        self.names = {}        # as the process sees them: relative path -> File
        for folder, _, names in os.walk(snapshot):
            for name in names:
                path = os.path.relpath(os.path.join(folder, name), snapshot)
                self.names[path] = File(os.path.join(folder, name))
        self.durable_names = dict(self.names)
        self.known = set(self.names)
        self.synced = 0

    def directory(self, path):
        return self.directories.setdefault(path, Directory())

    def name_changes(self, changes):
        for path, file in changes:
            self.known.add(path)
            if file is None:
                self.names.pop(path, None)
            else:
                self.names[path] = file
        by_directory = {}
        for path, file in changes:
            by_directory.setdefault(os.path.dirname(path) or ".", []).append((path, file))
        for directory, part in by_directory.items():
            self.directory(directory).pending.append(part)

    def apply_names(self, changes):
        for path, file in changes:
            if file is None:
                self.durable_names.pop(path, None)
            else:
                self.durable_names[path] = file

    def replay(self, records):
        for kind, flags, inode, a, path, data in records:
            if kind == OPEN:
                self.opened(flags, inode, path)
            elif kind in (WRITE, TRUNCATE, EXTEND):
                if inode in self.files:
                    self.files[inode].pending.append((kind, a, data))
            elif kind == SYNC:
                self.sync_began(inode, a)
            elif kind == SYNCED:
                self.sync_ended(inode, a)
            elif kind == FAILED:
                if inode in self.files:
                    self.files[inode].sync_failed()
            else:
                self.renamed(kind, path)

    def opened(self, flags, inode, path):
        if flags & DIRECTORY:
            self.directory_of[inode] = path
        elif flags & CREATED:
            self.files[inode] = File()
            self.name_changes([(path, self.files[inode])])
        elif path in self.names:
            self.files[inode] = self.names[path]

    def sync_began(self, inode, ticket):
        if inode in self.directory_of:
            directory = self.directory(self.directory_of[inode])
            directory.marks[ticket] = directory.dropped + len(directory.pending)
        elif inode in self.files:
            self.files[inode].sync_began(ticket)

    def sync_ended(self, inode, ticket):
        self.synced += 1
        if inode in self.directory_of:
            directory = self.directory(self.directory_of[inode])
            count = directory.marks.pop(ticket) - directory.dropped
            for changes in directory.pending[:max(0, count)]:
                self.apply_names(changes)
            del directory.pending[:max(0, count)]
            directory.dropped += max(0, count)
        elif inode in self.files:
            self.files[inode].sync_ended(ticket)

    def renamed(self, kind, path):
        if kind == UNLINK:
            self.known.add(path)
            if path in self.names:
                self.name_changes([(path, None)])
            return
        source, target = path.split("\0")
        file = self.names.get(source)
        if file is None:
            return  # a file that is not watched, such as RocksDB's LOG
        if kind == LINK:
            self.name_changes([(target, file)])
        else:
            self.name_changes([(source, None), (target, file)])

    def lose_power(self, rng):
        """Decides what was lost; returns (operations lost, name changes lost)."""
        names_lost = 0
        for directory in self.directories.values():
            kept = rng.randint(0, len(directory.pending))
            for changes in directory.pending[:kept]:
                self.apply_names(changes)
            names_lost += len(directory.pending) - kept
            directory.pending = []
        files = {id(file): file for file in list(self.durable_names.values()) + list(self.files.values())}
        return sum(file.lose_power(rng) for file in files.values()), names_lost

    def write_to(self, directory):
        for path in self.known:
            target = os.path.join(directory, path)
            file = self.durable_names.get(path)
            if file is None:
                if os.path.lexists(target):
                    os.unlink(target)
                continue
            temporary = target + ".restored"
            if file.content is None:
                shutil.copyfile(file.source, temporary)
            else:
                with open(temporary, "wb") as out:
                    out.write(file.content)
            os.replace(temporary, target)


def lose_power(directory, snapshot, journal, seed):
    """Rolls `directory` back to what a power loss would have left. `snapshot` is a copy of it from before the process
    began. Returns a dictionary of counts; deterministic for a seed."""
    model = Model(snapshot)
    model.replay(read_journal(journal))
    operations_lost, names_lost = model.lose_power(random.Random(seed))
    model.write_to(directory)
    return {"syncs": model.synced, "writes_lost": operations_lost, "names_lost": names_lost}
