#include <weft/runtime/registry.hpp>

#include <mutex>

namespace weft {
namespace {

std::mutex registry_mutex;  // guards all_runtimes and its links

}  // namespace

registration* detail::all_runtimes = nullptr;

registration::registration(scheduler& of) noexcept : registered(of) {
    const std::lock_guard lock(registry_mutex);
    next = detail::all_runtimes;
    detail::all_runtimes = this;
}

registration::~registration() {
    const std::lock_guard lock(registry_mutex);
    registration** link = &detail::all_runtimes;
    while (*link != this) link = &(*link)->next;
    *link = next;
}

void for_each_runtime(const std::function<void(scheduler&)>& act) {
    const std::lock_guard lock(registry_mutex);
    for (registration* each = detail::all_runtimes; each != nullptr; each = each->next) act(each->registered);
}

}  // namespace weft
