#include <model/memory.hpp>

namespace model {

void memory::reset() noexcept {
    locations_count_ = 0;
    threads_ = {};
    // Time begins at 1, so that an access at 0 is one that never was.
    tick(0);
    fences_ = {};
}

void memory::join_all(unsigned threads) noexcept {
    for (unsigned n = 1; n < threads; ++n) threads_[0].now.join(threads_[n].now);
    for (unsigned n = 0; n < locations_count_; ++n)
        threads_[0].now.seen[n] = static_cast<std::uint8_t>(stores(n) - 1);
}

unsigned memory::create(unsigned thread, const void* address, std::uint64_t value) {
    const unsigned number = locations_count_++;
    atomic_object& made = locations_[number];
    made.address = address;
    made.history.clear();
    made.history.push_back({value, {}, false});
    made.lifetime = {};
    made.alive = true;
    static_cast<void>(write_plain(thread, made.lifetime));
    return number;
}

unsigned memory::find(const void* address) const noexcept {
    for (unsigned n = 0; n < locations_count_; ++n)
        if (lives(n, address)) return n;
    return locations_max;
}

bool memory::destroy(unsigned thread, unsigned location) noexcept {
    locations_[location].alive = false;
    return write_plain(thread, locations_[location].lifetime);
}

bool memory::use(unsigned thread, unsigned location) noexcept {
    return read_plain(thread, locations_[location].lifetime);
}

void memory::read(unsigned thread, unsigned location, unsigned store, std::memory_order order) noexcept {
    auto& reader = threads_[thread];
    const stored& found = locations_[location].history[store];
    reader.now.seen[location] = static_cast<std::uint8_t>(store);
    (acquires(order) ? reader.now : reader.acquirable).join(found.released);
    tick(thread);
}

// Whoever has seen a store behind the new one still has: its number is one higher now.
void memory::insert(unsigned thread, unsigned location, unsigned previous, const stored& added) {
    auto& history = locations_[location].history;
    const unsigned place = previous + 1;
    if (place < history.size()) {
        const auto make_room = [&](view& each) {
            if (each.seen[location] >= place) ++each.seen[location];
        };
        for (auto& each : threads_) {
            make_room(each.now);
            make_room(each.acquirable);
            make_room(each.released);
        }
        for (unsigned n = 0; n < locations_count_; ++n)
            for (stored& each : locations_[n].history) make_room(each.released);
        make_room(fences_);
    }
    history.insert(history.begin() + place, added);
    threads_[thread].now.seen[location] = static_cast<std::uint8_t>(place);
    history[place].released.seen[location] = static_cast<std::uint8_t>(place);
    tick(thread);
}

void memory::write(unsigned thread, unsigned location, unsigned previous, std::uint64_t value,
                   std::memory_order order) {
    const auto& writer = threads_[thread];
    insert(thread, location, previous, {value, releases(order) ? writer.now : writer.released, false});
}

void memory::modify(unsigned thread, unsigned location, unsigned previous, std::uint64_t value,
                    std::memory_order order) {
    auto& modifier = threads_[thread];
    const view before = locations_[location].history[previous].released;
    (acquires(order) ? modifier.now : modifier.acquirable).join(before);
    stored added{value, releases(order) ? modifier.now : modifier.released, true};
    added.released.join(before);
    insert(thread, location, previous, added);
}

void memory::fence(unsigned thread) noexcept {
    auto& fencing = threads_[thread];
    fencing.now.join(fencing.acquirable);
    fencing.now.join_seen(fences_);
    fences_.join_seen(fencing.now);
    fencing.released = fencing.now;
    tick(thread);
}

bool memory::happened_before(const std::array<std::uint16_t, threads_max>& accesses,
                             const thread_state& by) noexcept {
    for (unsigned n = 0; n < threads_max; ++n)
        if (accesses[n] > by.now.past[n]) return false;
    return true;
}

bool memory::read_plain(unsigned thread, access_record& object) noexcept {
    object.reads[thread] = threads_[thread].now.past[thread];
    return happened_before(object.writes, threads_[thread]);
}

bool memory::write_plain(unsigned thread, access_record& object) noexcept {
    object.writes[thread] = threads_[thread].now.past[thread];
    return happened_before(object.writes, threads_[thread]) &&
           happened_before(object.reads, threads_[thread]);
}

}  // namespace model
