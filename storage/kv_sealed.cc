/* C++, because the C API of RocksDB (7.8) has no listeners. */
#include "kv_sealed.h"

#include <rocksdb/listener.h>
#include <rocksdb/options.h>

#include <memory>

/* As in db/c.cc of RocksDB 7.8.3, which does not say it in a header: to be looked at again with every other version. */
struct rocksdb_options_t {
    rocksdb::Options rep;
};

namespace {

class Sealed final : public rocksdb::EventListener {
public:
    Sealed(void (*sealed)(void *), void *context) : sealed_(sealed), context_(context) {}
    void OnMemTableSealed(const rocksdb::MemTableInfo &) override { sealed_(context_); }

private:
    void (*sealed_)(void *);
    void *context_;
};

} // namespace

extern "C" void kv_call_when_sealed(rocksdb_options_t *options, void (*sealed)(void *context), void *context)
{
    options->rep.listeners.push_back(std::make_shared<Sealed>(sealed, context));
}
