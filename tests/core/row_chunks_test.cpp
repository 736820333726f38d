// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/row_chunks.hpp"

#include "support/catch.hpp"

using namespace vattn;

TEST_CASE("chunks follow each other and cover all rows") {
  constexpr index_t size = row_chunks::size;
  for (const index_t rows : {index_t{1}, size - 1, size, size + 1, 3 * size, 3 * size + 700}) {
    const row_chunks chunks(rows);
    CAPTURE(rows);
    CHECK(chunks.count() == (rows + size - 1) / size);
    index_t next = 0;
    for (index_t i = 0; i < chunks.count(); ++i) {
      CHECK(chunks[i].first == next);
      CHECK(chunks[i].size() >= 1);
      CHECK((chunks[i].size() == size || i == chunks.count() - 1));
      next = chunks[i].last;
    }
    CHECK(next == rows);
  }
  CHECK(row_chunks(0).count() == 0);
  CHECK(size % 256 == 0);  // whole blocks of the kernels
}
