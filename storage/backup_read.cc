/* C++, because the C API of RocksDB (7.8) can neither open a directory of backups without writing to it nor compare
 * the checksums of a backup. */
#include <rocksdb/env.h>
#include <rocksdb/utilities/backup_engine.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "backup_engine.h"

using rocksdb::BackupEngineReadOnly;

static enum status open_backups(std::unique_ptr<BackupEngineReadOnly> *out, const char *dir, char *why, size_t why_len)
{
    BackupEngineReadOnly *engine = nullptr;
    rocksdb::IOStatus s =
        BackupEngineReadOnly::Open(rocksdb::BackupEngineOptions(dir), rocksdb::Env::Default(), &engine);
    out->reset(engine);
    if (s.ok()) return STATUS_OK;
    snprintf(why, why_len, "the backups in %s cannot be read (%s); check the path and the disk", dir,
             s.ToString().c_str());
    return STATUS_IO;
}

static bool has_backups(const char *dir)
{
    struct stat info;
    return stat((std::string(dir) + "/meta").c_str(), &info) == 0;
}

static enum status told(const rocksdb::Status &s, const char *dir, uint32_t id, const char *what, char *why,
                        size_t why_len)
{
    if (s.ok()) return STATUS_OK;
    if (s.IsNotFound() && s.ToString().find("Backup not found") != std::string::npos) {
        snprintf(why, why_len, "%s holds no backup %u; `carillon list-backups` shows those there are", dir, id);
        return STATUS_NOT_FOUND;
    }
    bool damaged = s.IsCorruption() || s.IsNotFound();
    snprintf(why, why_len, "backup %u in %s %s (%s)%s", id, dir, what, s.ToString().c_str(),
             damaged ? "; use another one" : s.IsNoSpace() ? "; make room" : "");
    return s.IsNoSpace() ? STATUS_NO_SPACE : damaged ? STATUS_CORRUPT : STATUS_IO;
}

enum status backup_list(const char *dir, struct backup_row *rows, unsigned max, unsigned *num, char *why,
                        size_t why_len)
{
    std::unique_ptr<BackupEngineReadOnly> engine;
    *num = 0;
    if (!has_backups(dir)) return STATUS_OK;
    enum status s = open_backups(&engine, dir, why, why_len);
    if (s != STATUS_OK) return s;
    std::vector<rocksdb::BackupInfo> good;
    std::vector<rocksdb::BackupID> damaged;
    engine->GetBackupInfo(&good);
    engine->GetCorruptedBackups(&damaged);
    std::vector<backup_row> all;
    all.reserve(good.size() + damaged.size());
    for (const auto &b : good)
        all.push_back({b.backup_id, b.number_files, b.size, uint64_t(b.timestamp) * 1000, false});
    for (auto id : damaged) all.push_back({id, 0, 0, 0, true});
    std::sort(all.begin(), all.end(), [](const backup_row &a, const backup_row &b) { return a.id < b.id; });
    for (size_t i = all.size() > max ? all.size() - max : 0; i < all.size(); i++) rows[(*num)++] = all[i];
    return STATUS_OK;
}

enum status backup_verify(const char *dir, uint32_t id, char *why, size_t why_len)
{
    std::unique_ptr<BackupEngineReadOnly> engine;
    enum status s = open_backups(&engine, dir, why, why_len);
    if (s != STATUS_OK) return s;
    s = told(engine->VerifyBackup(id, true), dir, id, "is damaged", why, why_len);
    return s == STATUS_OK ? backup_check_blocks(dir, id, why, why_len) : s;
}

enum status backup_restore_files(const char *dir, uint32_t id, const char *db_dir, char *why, size_t why_len)
{
    std::unique_ptr<BackupEngineReadOnly> engine;
    enum status s = open_backups(&engine, dir, why, why_len);
    if (s != STATUS_OK) return s;
    return told(engine->RestoreDBFromBackup(id, db_dir, db_dir), dir, id, "cannot be restored", why, why_len);
}
