/* C++, because the C API of RocksDB (7.8) has no file system to derive from. Nothing here throws: RocksDB is not
 * exception-safe. */
#include "kv_guard.h"

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

using rocksdb::FileOptions;
using rocksdb::FSWritableFile;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

/* As in RocksDB's db/c.cc (7.8), whose header keeps it to itself: options_set_env reads `rep` alone. That the database
 * uses the guard is asserted at each opening (kv_rocksdb.c). */
struct rocksdb_env_t {
    rocksdb::Env *rep;
    bool is_default;
};

namespace {

class Guard;

/* Watched is a log or a MANIFEST; a log has the number 0. */
class Watched : public rocksdb::FSWritableFileOwnerWrapper {
public:
    Watched(std::unique_ptr<FSWritableFile> &&file, Guard *guard, std::string path, uint64_t number, uint64_t order)
        : FSWritableFileOwnerWrapper(std::move(file)), _guard(guard), _path(std::move(path)), _number(number),
          _order(order)
    {
    }
    ~Watched() override;
    uint64_t order() const { return _order; }
    IOStatus Append(const Slice &data, const IOOptions &options, IODebugContext *dbg) override;
    IOStatus Append(const Slice &data, const IOOptions &options, const rocksdb::DataVerificationInfo &verification,
                    IODebugContext *dbg) override;
    IOStatus Sync(const IOOptions &options, IODebugContext *dbg) override;
    IOStatus Fsync(const IOOptions &options, IODebugContext *dbg) override;
    IOStatus RangeSync(uint64_t from, uint64_t len, const IOOptions &options, IODebugContext *dbg) override;
    IOStatus Close(const IOOptions &options, IODebugContext *dbg) override;

private:
    bool is_log() const { return _number == 0; }
    bool takes_bytes(const IOOptions &options, IODebugContext *dbg);
    template <class Call> IOStatus append(size_t len, const IOOptions &options, IODebugContext *dbg, Call call);
    template <class Call> IOStatus sync(Call call);
    IOStatus told(const IOStatus &s) const;

    Guard *_guard;
    std::string _path;
    uint64_t _number;
    uint64_t _order; /* in which logs were made, from 1 */
    uint64_t _bytes = 0; /* one thread at a time appends to a MANIFEST and syncs it */
};

/* Named is the directory with the names of the logs. Always synced in full: RocksDB would leave it out on btrfs, for
 * files of its own. */
class Named : public rocksdb::FSDirectoryWrapper {
public:
    Named(std::unique_ptr<rocksdb::FSDirectory> &&dir, Guard *guard) : FSDirectoryWrapper(std::move(dir)), _guard(guard)
    {
    }
    IOStatus Fsync(const IOOptions &options, IODebugContext *dbg) override;
    IOStatus FsyncWithDirOptions(const IOOptions &options, IODebugContext *dbg,
                                 const rocksdb::DirFsyncOptions &reason) override;

private:
    Guard *_guard;
};

class Guard : public rocksdb::FileSystemWrapper {
public:
    Guard(std::string dir, void (*tell)(const char *, const char *))
        : FileSystemWrapper(rocksdb::FileSystem::Default()), _dir(std::move(dir)), _tell(tell)
    {
    }
    const char *Name() const override { return "CarillonGuard"; }
    IOStatus NewWritableFile(const std::string &path, const FileOptions &options, std::unique_ptr<FSWritableFile> *out,
                             IODebugContext *dbg) override;
    IOStatus NewDirectory(const std::string &path, const IOOptions &options, std::unique_ptr<rocksdb::FSDirectory> *out,
                          IODebugContext *dbg) override;
    IOStatus RenameFile(const std::string &from, const std::string &to, const IOOptions &options,
                        IODebugContext *dbg) override;

    bool failed() const { return _failed.load(std::memory_order_acquire); }
    bool failed_at_rest() const;
    void fail(const std::string &path, const IOStatus &s);
    void note(uint64_t number, uint64_t bytes);
    void opened();
    const char *why() const;
    bool begin_log(Watched *log, const std::string &path, const IOOptions &options, IODebugContext *dbg);
    IOStatus sync_last_log(const IOOptions &options, IODebugContext *dbg);
    void end_log(const Watched *log);
    uint64_t logs_made() const;
    void names_synced(uint64_t logs_made);
    const std::string &dir() const { return _dir; }
    void manifest(uint64_t *number, uint64_t *bytes) const;

private:
    friend class UnderWay;
    const std::string _dir; /* of the database: what is elsewhere is not watched */
    void (*_tell)(const char *, const char *);
    std::atomic<bool> _failed{false};
    std::string _why; /* before _failed is set, and not after it */
    mutable std::mutex _counting; /* over the two below */
    std::list<uint64_t> _under_way; /* syncs of logs and of their names, by number, oldest first */
    uint64_t _begun = 0;
    mutable std::condition_variable _ended;
    mutable std::mutex _lock; /* over all below */
    uint64_t _number = 0, _bytes = 0; /* what was synced last */
    Watched *_log = nullptr; /* that was begun last, while it is open */
    uint64_t _made = 0, _named = 0; /* logs that were made; up to which their names are on disk */
    uint64_t _renamed = 0, _current = 0; /* what CURRENT names; and what it names on disk, too */
};

/* UnderWay lives while a log, or the directory with its name, is synced and until a failure of that is noted.
 *
 * The kernel tells of an error once for an open file (errseq_t, Linux 4.13): of two syncs at the same time one may
 * succeed because the other one has taken the error. So a success says something when all syncs that had begun by then
 * have ended and none has failed: failed_at_rest. */
class UnderWay {
public:
    explicit UnderWay(Guard *guard) : _guard(guard)
    {
        std::lock_guard<std::mutex> hold(_guard->_counting);
        _at = _guard->_under_way.insert(_guard->_under_way.end(), ++_guard->_begun);
    }
    ~UnderWay()
    {
        std::lock_guard<std::mutex> hold(_guard->_counting);
        _guard->_under_way.erase(_at);
        _guard->_ended.notify_all();
    }
    UnderWay(const UnderWay &) = delete;
    UnderWay &operator=(const UnderWay &) = delete;

private:
    Guard *_guard;
    std::list<uint64_t>::iterator _at;
};

IOStatus stopped()
{
    return IOStatus::IOError("stopped: a log or MANIFEST failed before");
}

const char *name_of(const std::string &path)
{
    const char *slash = strrchr(path.c_str(), '/');
    return slash ? slash + 1 : path.c_str();
}

bool is_log(const std::string &path)
{
    return path.size() > 4 && path.compare(path.size() - 4, 4, ".log") == 0;
}

std::string dir_of(const std::string &path)
{
    return path.substr(0, path.rfind('/'));
}

/* manifest_number returns 0 for what is none. */
uint64_t manifest_number(const std::string &path)
{
    const char *name = name_of(path);
    return strncmp(name, "MANIFEST-", 9) == 0 ? strtoull(name + 9, nullptr, 10) : 0;
}

/* --- a file ------------------------------------------------------------------------------------------------------- */

IOStatus Watched::Append(const Slice &data, const IOOptions &options, IODebugContext *dbg)
{
    return append(data.size(), options, dbg, [&] { return target()->Append(data, options, dbg); });
}

IOStatus Watched::Append(const Slice &data, const IOOptions &options, const rocksdb::DataVerificationInfo &verification,
                         IODebugContext *dbg)
{
    return append(data.size(), options, dbg, [&] { return target()->Append(data, options, verification, dbg); });
}

IOStatus Watched::Sync(const IOOptions &options, IODebugContext *dbg)
{
    return sync([&] { return target()->Sync(options, dbg); });
}

IOStatus Watched::Fsync(const IOOptions &options, IODebugContext *dbg)
{
    return sync([&] { return target()->Fsync(options, dbg); });
}

/* A hint, whose error RocksDB would act on by itself. */
IOStatus Watched::RangeSync(uint64_t, uint64_t, const IOOptions &, IODebugContext *)
{
    return IOStatus::OK();
}

/* From here on the file is not to be synced any more: its descriptor may soon be another file's. What is closed before
 * the next log is begun has been flushed, and nobody needs it. */
IOStatus Watched::Close(const IOOptions &options, IODebugContext *dbg)
{
    if (is_log()) _guard->end_log(this);
    return FSWritableFileOwnerWrapper::Close(options, dbg);
}

Watched::~Watched()
{
    if (is_log()) _guard->end_log(this);
}

template <class Call>
IOStatus Watched::append(size_t len, const IOOptions &options, IODebugContext *dbg, Call call)
{
    if (!takes_bytes(options, dbg)) return told(stopped());
    IOStatus s = call();
    if (s.ok()) _bytes += len;
    else _guard->fail(_path, s);
    return told(s);
}

template <class Call> IOStatus Watched::sync(Call call)
{
    std::optional<UnderWay> under_way;
    if (is_log()) under_way.emplace(_guard);
    if (is_log() ? _guard->failed() : _guard->failed_at_rest()) return told(stopped());
    IOStatus s = call();
    if (!s.ok()) _guard->fail(_path, s);
    else if (!is_log()) _guard->note(_number, _bytes);
    return told(s);
}

bool Watched::takes_bytes(const IOOptions &options, IODebugContext *dbg)
{
    if (!is_log()) return !_guard->failed_at_rest();
    return !_guard->failed() && (_bytes > 0 || _guard->begin_log(this, _path, options, dbg));
}

/* What RocksDB is told. Of a log's failure nothing: with assertions on, as in Debian, it aborts when a second thread
 * meets a log that failed, and without them it would repair itself. It goes on in memory, where nobody is answered
 * from: kv_write and kv_sync ask the guard. A MANIFEST's it must know, or it would remove files that the one on disk
 * names. */
IOStatus Watched::told(const IOStatus &s) const
{
    return is_log() ? IOStatus::OK() : s;
}

/* --- a directory -------------------------------------------------------------------------------------------------- */

IOStatus Named::Fsync(const IOOptions &options, IODebugContext *dbg)
{
    uint64_t made = _guard->logs_made(); /* before: what is made meanwhile may be left out */
    UnderWay under_way(_guard);
    IOStatus s = FSDirectoryWrapper::Fsync(options, dbg);
    if (s.ok()) _guard->names_synced(made);
    else _guard->fail(_guard->dir(), s);
    return s;
}

IOStatus Named::FsyncWithDirOptions(const IOOptions &options, IODebugContext *dbg, const rocksdb::DirFsyncOptions &)
{
    return Fsync(options, dbg);
}

/* --- all of them -------------------------------------------------------------------------------------------------- */

IOStatus Guard::NewWritableFile(const std::string &path, const FileOptions &options,
                                std::unique_ptr<FSWritableFile> *out, IODebugContext *dbg)
{
    bool here = dir_of(path) == _dir;
    uint64_t number = here ? manifest_number(path) : 0;
    if (number && failed_at_rest()) return stopped();
    IOStatus s = FileSystemWrapper::NewWritableFile(path, options, out, dbg);
    if (!s.ok() || !here || (!number && !is_log(path))) return s;
    std::lock_guard<std::mutex> hold(_lock);
    *out = std::make_unique<Watched>(std::move(*out), this, path, number, number ? 0 : ++_made);
    return s;
}

IOStatus Guard::NewDirectory(const std::string &path, const IOOptions &options,
                             std::unique_ptr<rocksdb::FSDirectory> *out, IODebugContext *dbg)
{
    IOStatus s = FileSystemWrapper::NewDirectory(path, options, out, dbg);
    if (s.ok() && path == _dir) *out = std::make_unique<Named>(std::move(*out), this);
    return s;
}

IOStatus Guard::RenameFile(const std::string &from, const std::string &to, const IOOptions &options,
                           IODebugContext *dbg)
{
    bool is_current = dir_of(to) == _dir && strcmp(name_of(to), "CURRENT") == 0;
    if (is_current && failed_at_rest()) return stopped();
    IOStatus s = FileSystemWrapper::RenameFile(from, to, options, dbg);
    if (!is_current) return s;
    if (!s.ok()) fail(to, s);
    std::lock_guard<std::mutex> hold(_lock);
    _renamed = _number;
    return s;
}

/* begin_log syncs the log before, and the directory if it may not name that one yet, ahead of the new one's first
 * record. Else a power loss may take the end of one log, or all of it, and leave the next: RocksDB sees that only when
 * it is cut within a record, and goes on with rows behind a hole. Comes once a write buffer, and all writes wait for
 * it: RocksDB has mostly synced the directory before, with the log's own first sync. A flush syncs the log before at
 * the same time. Returns whether the new one may be written. */
bool Guard::begin_log(Watched *log, const std::string &path, const IOOptions &options, IODebugContext *dbg)
{
    {
        UnderWay under_way(this);
        IOStatus s = sync_last_log(options, dbg);
        if (!s.ok()) fail(path, s);
    }
    if (failed_at_rest()) return false;
    std::lock_guard<std::mutex> hold(_lock);
    _log = log;
    return true;
}

IOStatus Guard::sync_last_log(const IOOptions &options, IODebugContext *dbg)
{
    std::lock_guard<std::mutex> hold(_lock);
    if (!_log) return IOStatus::OK();
    IOStatus s = _log->target()->Sync(options, dbg);
    if (!s.ok() || _log->order() <= _named) return s;
    std::unique_ptr<rocksdb::FSDirectory> dir;
    s = target()->NewDirectory(_dir, options, &dir, dbg);
    if (s.ok()) s = dir->Fsync(options, dbg);
    if (s.ok()) _named = _log->order();
    return s;
}

void Guard::end_log(const Watched *log)
{
    std::lock_guard<std::mutex> hold(_lock);
    if (_log == log) _log = nullptr;
}

uint64_t Guard::logs_made() const
{
    std::lock_guard<std::mutex> hold(_lock);
    return _made;
}

void Guard::names_synced(uint64_t logs_made)
{
    std::lock_guard<std::mutex> hold(_lock);
    if (logs_made > _named) _named = logs_made;
}

bool Guard::failed_at_rest() const
{
    std::unique_lock<std::mutex> hold(_counting);
    uint64_t begun = _begun;
    _ended.wait(hold, [&] { return failed() || _under_way.empty() || _under_way.front() > begun; });
    return failed();
}

void Guard::fail(const std::string &path, const IOStatus &s)
{
    std::unique_lock<std::mutex> hold(_counting);
    if (failed()) return;
    _why = s.ToString();
    _failed.store(true, std::memory_order_release);
    hold.unlock();
    _ended.notify_all();
    _tell(path.c_str(), _why.c_str());
}

const char *Guard::why() const
{
    return failed() ? _why.c_str() : nullptr;
}

void Guard::note(uint64_t number, uint64_t bytes)
{
    std::lock_guard<std::mutex> hold(_lock);
    _number = number;
    _bytes = bytes;
    /* a second edit: RocksDB has synced the directory behind the renaming, before it ended the first */
    if (_renamed == number) _current = number;
}

void Guard::opened()
{
    std::lock_guard<std::mutex> hold(_lock);
    _current = _number;
}

void Guard::manifest(uint64_t *number, uint64_t *bytes) const
{
    std::lock_guard<std::mutex> hold(_lock);
    bool known = !failed() && _current == _number;
    *number = known ? _number : 0;
    *bytes = known ? _bytes : 0;
}

} // namespace

struct kv_guard {
    std::shared_ptr<Guard> files;
    std::unique_ptr<rocksdb::Env> env;
    rocksdb_env_t handle;
};

struct kv_guard *kv_guard_new(const char *dir, void (*failed)(const char *path, const char *detail))
{
    auto *g = new kv_guard;
    g->files = std::make_shared<Guard>(dir, failed);
    g->env = rocksdb::NewCompositeEnv(g->files);
    g->handle = {g->env.get(), false};
    return g;
}

void kv_guard_free(struct kv_guard *g)
{
    delete g;
}

rocksdb_env_t *kv_guard_env(struct kv_guard *g)
{
    return &g->handle;
}

const char *kv_guard_failure(const struct kv_guard *g)
{
    return g ? g->files->why() : nullptr;
}

const char *kv_guard_failure_at_rest(const struct kv_guard *g)
{
    return g && g->files->failed_at_rest() ? g->files->why() : nullptr;
}

void kv_guard_opened(struct kv_guard *g)
{
    g->files->opened();
}

void kv_guard_manifest(const struct kv_guard *g, uint64_t *number, uint64_t *bytes)
{
    g->files->manifest(number, bytes);
}
