// route: the experts of every row and their weights, and the visits to each expert in tiles. One
// block: first a warp is a row, then a thread is an expert. A row alone has neither tiles nor this
// launch: `expand` chooses.

struct RouteArgs {
    Router router;
    Visits visits;
    u32 tiles; // room for so many
    u32 width; // pairs of a tile, at most
};

ENTRY(route, 1024, RouteArgs) {
    __shared__ u32 pairs[1024], tiles[1024];
    const Router& router = a.router;
    u32 all = router.rows * router.used, e = threadIdx.x;
    if (router.choice == CHOOSES) {
        for (u32 row = warp_id(); row < router.rows; row += 32) choose(router, row, true);
    } else if (router.choice == ONLY) {
        for (u32 i = e; i < all; i += 1024) {
            router.id[i] = 0;
            router.weight[i] = 1.0f;
        }
    }
    __syncthreads();
    u32 count = 0;
    for (u32 i = 0; e < router.experts && i < all; i++) count += router.id[i] == e;
    pairs[e] = count;
    tiles[e] = (count + a.width - 1) / a.width;
    __syncthreads();
    // Sums over all lower experts, doubling the reach.
    for (u32 reach = 1; reach < 1024; reach <<= 1) {
        u32 p = e >= reach ? pairs[e - reach] : 0, t = e >= reach ? tiles[e - reach] : 0;
        __syncthreads();
        pairs[e] += p;
        tiles[e] += t;
        __syncthreads();
    }
    u32 at = pairs[e] - count, tile = tiles[e] - (count + a.width - 1) / a.width;
    for (u32 i = 0; i < count; i += a.width, tile++) {
        a.visits.expert[tile] = e;
        a.visits.first[tile] = at + i;
        a.visits.count[tile] = count - i < a.width ? count - i : a.width;
    }
    for (u32 i = 0; count > 0 && i < all; i++) {
        if (router.id[i] == e) a.visits.order[at++] = i;
    }
    for (u32 i = tiles[1023] + e; i < a.tiles; i += 1024) a.visits.count[i] = 0;
}
