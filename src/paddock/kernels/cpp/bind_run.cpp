// Running a program from Python: everything a caller can get wrong is refused here.
#include <algorithm>

#include "bind_program.h"
#include "unlocked.h"

namespace paddock {

namespace {

int64_t tables_least(const Program& program, bool by_position) {
    int64_t least = INT32_MAX;
    for (const Instruction& op : program.instructions) {
        if (op.op == Op::Embed && op.flag == by_position) least = std::min(least, program.tables[static_cast<size_t>(op.table)].rows);
    }
    return least;
}

// The sources of a run: one for each sequence, of the layers that the program was recorded for.
void check_sources(const Program& program, const Spans& spans, const Sources& sources) {
    require(sources.size() == (program.crossed.empty() ? 0 : spans.shape(0)), "as many sources as sequences are needed, and none where nothing crosses");
    for (size_t sequence = 0; sequence < sources.size(); ++sequence) {
        const Source* source = sources[sequence].get();
        require(source && source->cache.layers() == static_cast<int64_t>(program.crossed.size()), "a source of other layers");
        for (size_t layer = 0; layer < program.crossed.size(); ++layer) {
            const CacheLayer& found = source->cache.layer(static_cast<int64_t>(layer));
            require(std::pair(found.kv_heads, found.head_dim) == program.crossed[layer], "a source with other heads");
        }
        const int64_t* span = spans.data() + 4 * sequence;
        require(program.fills || source->filled > 0, "a source that was not filled");
        require(!program.fills || (span[2] == 0 && span[1] <= source->cache.blocks() * LANES), "a source with too little room for its text");
    }
}

// Every number that the run will index with is checked; a wrong one would read or write outside of the cache.
void check_batch(const Program& program, const Ints& ids, const Ints& positions, const Spans& spans, const Tables& tables, const Ints& wanted, const Out& out) {
    require(program.finished() && program.input < 0, "the program is not finished");
    const int64_t rows = static_cast<int64_t>(ids.size());
    require(rows > 0 && static_cast<int64_t>(positions.size()) == rows * program.streams, "as many positions as ids are needed");
    const int64_t vocabulary = tables_least(program, false), places = tables_least(program, true);
    for (int64_t row = 0; row < rows; ++row) {
        require(ids.data()[row] >= 0 && ids.data()[row] < vocabulary, "an id outside of the vocabulary");
        for (int64_t stream = 0; stream < program.streams; ++stream) {
            const int64_t place = positions.data()[row * program.streams + stream];
            require(place >= 0 && place < (stream == 0 ? std::min<int64_t>(places, 1 << 24) : 1 << 24), "a position outside of the table");
        }
    }
    require(spans.shape(0) == tables.shape(0), "as many block tables as sequences are needed");
    const int64_t blocks = program.cache ? program.cache->blocks() : 0;
    int64_t next = 0;
    for (size_t sequence = 0; sequence < spans.shape(0); ++sequence) {
        const int64_t* span = spans.data() + 4 * sequence;
        require(span[0] == next && span[1] > 0, "sequences whose rows do not follow each other");
        next += span[1];
        require(span[2] >= 0 && span[2] < (int64_t{1} << 31) && span[3] >= 0 && span[3] <= span[2] + span[1], "slots outside of the sequence");
        const int64_t used = (span[2] + span[1] + LANES - 1) / LANES;
        require(!program.cache || used <= static_cast<int64_t>(tables.shape(1)), "a block table too short for its sequence");
        for (int64_t block = 0; program.cache && block < used; ++block) {
            const int32_t number = tables.data()[sequence * tables.shape(1) + static_cast<size_t>(block)];
            require(number >= 0 && number < blocks, "a block outside of the cache");
        }
    }
    require(next == rows, "rows of no sequence");
    const bool selected = program.kinds[static_cast<size_t>(program.output)] == RowKind::Wanted;
    for (size_t i = 0; i < wanted.size(); ++i) require(wanted.data()[i] >= 0 && wanted.data()[i] < rows, "a wanted row that is not there");
    require(static_cast<int64_t>(out.shape(0)) == (selected ? static_cast<int64_t>(wanted.size()) : rows), "an output of other rows");
    require(static_cast<int64_t>(out.shape(1)) == program.widths[static_cast<size_t>(program.output)], "an output of another width");
}

void check_adapters(const Program& program, const Ints& ids, const std::optional<Ints>& adapters) {
    if (!adapters) return;
    require(adapters->size() == ids.size(), "as many adapters as ids are needed");
    for (size_t row = 0; row < adapters->size(); ++row) {
        require(adapters->data()[row] >= 0 && adapters->data()[row] <= program.adapters, "an adapter that the program does not have");
    }
}

}  // namespace

void run_program(Program& program, const Ints& ids, const Ints& positions, const Spans& spans, const Tables& tables, const Ints& wanted, const Out& out,
                 const Sources& sources, const std::optional<Matrix>& rates, const std::optional<Ints>& adapters) {
    check_batch(program, ids, positions, spans, tables, wanted, out);
    check_sources(program, spans, sources);
    check_adapters(program, ids, adapters);
    const bool given = rates && static_cast<int64_t>(rates->shape(1)) == program.rates && rates->shape(0) == spans.shape(0);
    require(program.rates ? given : !rates, "frequencies for each sequence, where the program asks for them");
    const BatchView batch{static_cast<int64_t>(ids.size()), ids.data(), positions.data(), static_cast<int64_t>(spans.shape(0)), spans.data(),
                          tables.data(), static_cast<int64_t>(tables.shape(1)), static_cast<int64_t>(wanted.size()), wanted.data(), sources.data(), rates ? rates->data() : nullptr,
                          adapters ? adapters->data() : nullptr};
    Unlocked unlocked;
    program.run(batch, out.data());
}

}  // namespace paddock
