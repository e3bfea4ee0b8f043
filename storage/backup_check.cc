/* C++, because the C API of RocksDB (7.8) can neither check a table file's blocks, nor name a backup's files, nor
 * delete one backup. */
#include <rocksdb/env.h>
#include <rocksdb/sst_file_reader.h>
#include <rocksdb/utilities/backup_engine.h>
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "backup_engine.h"

using rocksdb::BackupEngine;
using rocksdb::BackupEngineReadOnly;

/* DIR/accepted names the tables that were found good, one a line: they are not read again for every backup. A kill
 * between a backup and its check leaves them out of it, so that the next backup's check meets them. */
static std::set<std::string> read_accepted(const std::string &dir)
{
    std::set<std::string> names;
    std::ifstream file(dir + "/accepted");
    for (std::string line; std::getline(file, line);) names.insert(line);
    return names;
}

static bool write_accepted(const std::string &dir, const std::set<std::string> &names)
{
    std::string text, fresh = dir + "/accepted.new";
    for (const auto &name : names) text += name + "\n";
    int fd = open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good = fd >= 0 && write(fd, text.data(), text.size()) == (ssize_t)text.size() && fsync(fd) == 0;
    if (fd >= 0) close(fd);
    return good && rename(fresh.c_str(), (dir + "/accepted").c_str()) == 0;
}

static std::vector<std::string> tables_of(const rocksdb::BackupInfo &backup)
{
    std::vector<std::string> names;
    for (const auto &file : backup.file_details) {
        const std::string &name = file.relative_filename;
        if (name.size() > 4 && name.compare(name.size() - 4, 4, ".sst") == 0) names.push_back(name);
    }
    return names;
}

/* check_table reads every block and compares its checksum: what the engine compares was computed from whatever it read,
 * so a table that was bad in the store is a good copy to it. */
static rocksdb::Status check_table(const std::string &path)
{
    rocksdb::SstFileReader table{rocksdb::Options()};
    rocksdb::Status s = table.Open(path);
    return s.ok() ? table.VerifyChecksum() : s;
}

/* pause keeps to the rate from one table to the next; they were just written, so they come from memory. */
static void pause(const std::string &path, uint64_t bytes_per_second)
{
    uint64_t bytes = 0;
    if (!bytes_per_second || !rocksdb::Env::Default()->GetFileSize(path, &bytes).ok()) return;
    std::this_thread::sleep_for(std::chrono::microseconds(uint64_t(double(bytes) / double(bytes_per_second) * 1e6)));
}

static enum status newest(const char *dir, rocksdb::BackupInfo *out, char *why, size_t why_len)
{
    BackupEngineReadOnly *opened = nullptr;
    rocksdb::Status s = BackupEngineReadOnly::Open(rocksdb::BackupEngineOptions(dir), rocksdb::Env::Default(), &opened);
    std::unique_ptr<BackupEngineReadOnly> engine(opened);
    if (s.ok()) s = engine->GetLatestBackupInfo(out, true);
    if (s.ok()) return STATUS_OK;
    snprintf(why, why_len, "the backup in %s cannot be read (%s); check the disk", dir, s.ToString().c_str());
    return STATUS_IO;
}

static rocksdb::Status throw_away(const char *dir, uint32_t id)
{
    BackupEngine *opened = nullptr;
    rocksdb::Status s = BackupEngine::Open(rocksdb::BackupEngineOptions(dir), rocksdb::Env::Default(), &opened);
    std::unique_ptr<BackupEngine> engine(opened);
    return s.ok() ? rocksdb::Status(engine->DeleteBackup(id)) : s;
}

enum status backup_accept(const char *dir, uint64_t bytes_per_second, char *why, size_t why_len)
{
    rocksdb::BackupInfo backup;
    enum status read = newest(dir, &backup, why, why_len);
    if (read != STATUS_OK) return read;
    std::set<std::string> accepted = read_accepted(dir);
    for (const auto &name : tables_of(backup)) {
        std::string path = std::string(dir) + "/" + name;
        if (accepted.count(name)) continue;
        rocksdb::Status s = check_table(path);
        if (!s.ok()) {
            rocksdb::Status gone = throw_away(dir, backup.backup_id);
            snprintf(why, why_len,
                     "a table of the store, or its copy, is damaged: the backup %s, and older ones are kept; `carillon "
                     "verify-store` on a copy of the store says whether rows are lost (%s)",
                     gone.ok() ? "was thrown away" : "is of no use, and cannot be removed", s.ToString().c_str());
            return STATUS_CORRUPT;
        }
        accepted.insert(name);
        pause(path, bytes_per_second);
    }
    for (auto name = accepted.begin(); name != accepted.end();) { /* those of backups that are gone */
        bool there = access((std::string(dir) + "/" + *name).c_str(), F_OK) == 0;
        name = there ? std::next(name) : accepted.erase(name);
    }
    if (write_accepted(dir, accepted)) return STATUS_OK;
    snprintf(why, why_len, "%s/accepted cannot be written; check the disk", dir);
    return STATUS_IO;
}

enum status backup_check_blocks(const char *dir, uint32_t id, char *why, size_t why_len)
{
    rocksdb::BackupInfo backup;
    BackupEngineReadOnly *opened = nullptr;
    rocksdb::Status s = BackupEngineReadOnly::Open(rocksdb::BackupEngineOptions(dir), rocksdb::Env::Default(), &opened);
    std::unique_ptr<BackupEngineReadOnly> engine(opened);
    if (s.ok()) s = engine->GetBackupInfo(id, &backup, true);
    if (s.ok())
        for (const auto &name : tables_of(backup)) {
            s = check_table(std::string(dir) + "/" + name);
            if (!s.ok()) break;
        }
    if (s.ok()) return STATUS_OK;
    snprintf(why, why_len, "backup %u in %s is damaged, as the store was when it was made (%s); use another one", id,
             dir, s.ToString().c_str());
    return STATUS_CORRUPT;
}
