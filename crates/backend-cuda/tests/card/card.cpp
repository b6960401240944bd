// The part of the CUDA driver that qwire calls, on the CPU: behind `shim.h` and the kernels it makes
// a libcuda.so with which the binary runs as it is where there is no card. Two cards: the first has
// cubins, the second gets PTX. Memory is this process's and filled with what is no number, copies are
// checked against what was allocated, everything is over when a call returns, and what is captured
// runs when the graph is launched. Events read the CPU's clock: no time is a card's.
#include <chrono>
#include <dlfcn.h>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace card {
constexpr int INVALID = 1, NO_MEMORY = 2, NO_BINARY = 209, NOT_FOUND = 500, LAUNCH_FAILED = 719;
constexpr uint64_t TOTAL = 8ull << 30;
typedef int (*Entry)(const void*, const unsigned*, unsigned);
typedef unsigned (*Size)();

struct Function {
    Entry entry;
    unsigned args;
};
struct Node {
    Function function;
    std::vector<uint64_t> args;
    unsigned grid[3];
};
struct Graph {
    std::vector<Node> nodes;
};
struct Stream {
    Graph* capture = nullptr;
};
struct Event {
    std::chrono::steady_clock::time_point at;
};
struct Device {
    const char* name;
    int major, minor;
};
inline const Device DEVICES[] = {{"CPU in place of a card", 9, 0}, {"CPU in place of a card", 10, 0}};
inline std::map<uint64_t, uint64_t> pieces; // address, bytes
inline uint64_t taken;
inline std::mutex mutex;  // kernels run one at a time, whatever thread asks
inline thread_local Device const* current;

// Whether a range lies in one piece of memory.
inline bool inside(uint64_t at, uint64_t bytes) {
    std::lock_guard<std::mutex> lock(mutex);
    auto next = pieces.upper_bound(at);
    if (next == pieces.begin()) return false;
    auto [start, len] = *--next;
    return at + bytes <= start + len;
}

inline int run(const Node& node) {
    std::lock_guard<std::mutex> lock(mutex);
    return node.function.entry(node.args.data(), node.grid, 0) ? LAUNCH_FAILED : 0;
}

inline void* symbol(const std::string& name) {
    Dl_info self;
    if (!dladdr((void*)&symbol, &self)) return nullptr;
    void* library = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    return library ? dlsym(library, name.c_str()) : nullptr;
}
} // namespace card

using namespace card;

VISIBLE int cuInit(unsigned) { return 0; }
VISIBLE int cuDriverGetVersion(int* version) { return *version = 12040, 0; }
VISIBLE int cuDeviceGetCount(int* count) { return *count = 2, 0; }
VISIBLE int cuDeviceGet(int* device, int ordinal) {
    return ordinal < 0 || ordinal > 1 ? 101 : (*device = ordinal, 0);
}
VISIBLE int cuDeviceGetName(char* name, int len, int device) {
    strncpy(name, DEVICES[device].name, len);
    return 0;
}
VISIBLE int cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = TOTAL, 0; }
VISIBLE int cuDeviceGetAttribute(int* value, int attribute, int device) {
    // 75 and 76 are the compute capability; pools of memory and the rest there is not.
    *value = attribute == 75 ? DEVICES[device].major : attribute == 76 ? DEVICES[device].minor : 0;
    return 0;
}
VISIBLE int cuDevicePrimaryCtxRetain(const Device** context, int device) {
    return *context = &DEVICES[device], 0;
}
VISIBLE int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
VISIBLE int cuCtxSetCurrent(const Device* context) { return current = context, 0; }
VISIBLE int cuCtxGetCurrent(const Device** context) { return *context = current, 0; }
VISIBLE int cuCtxSynchronize() { return 0; }
VISIBLE int cuStreamCreate(Stream** stream, unsigned) { return *stream = new Stream, 0; }
VISIBLE int cuStreamDestroy_v2(Stream* stream) { return delete stream, 0; }
VISIBLE int cuStreamSynchronize(Stream* stream) { return stream->capture ? INVALID : 0; }

VISIBLE int cuModuleLoadData(void** module, const void* image) {
    bool cubin = !memcmp(image, "\177ELF", 4), text = !memcmp(image, "//", 2);
    if (current->major == 9 ? !cubin : !text) return NO_BINARY;
    return *module = &pieces, 0;
}
VISIBLE int cuModuleUnload(void*) { return 0; }
VISIBLE int cuModuleGetFunction(Function** function, void*, const char* name) {
    auto entry = (Entry)symbol(std::string("shim_") + name);
    auto size = (Size)symbol(std::string("shim_args_") + name);
    if (!entry || !size) return NOT_FOUND;
    return *function = new Function{entry, size()}, 0;
}
VISIBLE int cuLaunchKernel(Function* function, unsigned x, unsigned y, unsigned z, unsigned threads,
                           unsigned, unsigned, unsigned, Stream* stream, void** params, void**) {
    // A card's limits.
    if (!x || !y || !z || y > 65535 || z > 65535 || threads > 1024) return INVALID;
    Node node{*function, std::vector<uint64_t>((function->args + 7) / 8), {x, y, z}};
    memcpy(node.args.data(), params[0], function->args);
    if (!stream->capture) return run(node);
    stream->capture->nodes.push_back(std::move(node));
    return 0;
}

VISIBLE int cuMemAlloc_v2(uint64_t* at, size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex);
    if (!bytes || taken + bytes > TOTAL) return NO_MEMORY;
    *at = (uint64_t)aligned_alloc(256, (bytes + 255) & ~255ull);
    memset((void*)*at, 0xff, bytes);
    pieces[*at] = bytes;
    taken += bytes;
    return 0;
}
VISIBLE int cuMemFree_v2(uint64_t at) {
    std::lock_guard<std::mutex> lock(mutex);
    auto piece = pieces.find(at);
    if (piece == pieces.end()) return INVALID;
    taken -= piece->second;
    pieces.erase(piece);
    return free((void*)at), 0;
}
VISIBLE int cuMemGetInfo_v2(size_t* free, size_t* total) {
    return *free = TOTAL - taken, *total = TOTAL, 0;
}
VISIBLE int cuMemsetD8Async(uint64_t at, unsigned char value, size_t bytes, Stream* stream) {
    if (!inside(at, bytes) || stream->capture) return INVALID;
    return memset((void*)at, value, bytes), 0;
}
VISIBLE int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, Stream* stream) {
    if (!inside(to, bytes) || stream->capture) return INVALID;
    return memcpy((void*)to, from, bytes), 0;
}
VISIBLE int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, Stream* stream) {
    if (!inside(from, bytes) || stream->capture) return INVALID;
    return memcpy(to, (void*)from, bytes), 0;
}
VISIBLE int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, Stream* stream) {
    if (!inside(from, bytes) || !inside(to, bytes) || stream->capture) return INVALID;
    return memmove((void*)to, (void*)from, bytes), 0;
}

VISIBLE int cuStreamBeginCapture_v2(Stream* stream, int) {
    if (stream->capture) return INVALID;
    return stream->capture = new Graph, 0;
}
VISIBLE int cuStreamEndCapture(Stream* stream, Graph** graph) {
    *graph = stream->capture;
    stream->capture = nullptr;
    return *graph ? 0 : INVALID;
}
VISIBLE int cuGraphInstantiateWithFlags(Graph** exec, Graph* graph, unsigned long long) {
    return *exec = new Graph(*graph), 0;
}
VISIBLE int cuGraphLaunch(Graph* exec, Stream* stream) {
    if (stream->capture) return INVALID;
    for (const Node& node : exec->nodes) {
        if (int fault = run(node)) return fault;
    }
    return 0;
}
VISIBLE int cuGraphExecDestroy(Graph* exec) { return delete exec, 0; }
VISIBLE int cuGraphDestroy(Graph* graph) { return delete graph, 0; }

VISIBLE int cuEventCreate(Event** event, unsigned) { return *event = new Event, 0; }
VISIBLE int cuEventDestroy_v2(Event* event) { return delete event, 0; }
VISIBLE int cuEventSynchronize(Event*) { return 0; }
VISIBLE int cuEventRecord(Event* event, Stream* stream) {
    if (stream->capture) return INVALID;
    return event->at = std::chrono::steady_clock::now(), 0;
}
VISIBLE int cuEventElapsedTime(float* milliseconds, Event* start, Event* end) {
    *milliseconds = std::chrono::duration<float, std::milli>(end->at - start->at).count();
    return 0;
}

VISIBLE int cuGetErrorName(int, const char** name) { return *name = "CUDA_ERROR", 0; }
VISIBLE int cuGetErrorString(int error, const char** text) {
    static thread_local std::string words;
    words = "number " + std::to_string(error);
    return *text = words.c_str(), 0;
}
