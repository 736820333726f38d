// SPDX-License-Identifier: Apache-2.0
/// @file
/// Workspaces of the workers of a team.
#pragma once

#include <vector>

#include "vattention/core/workspace.hpp"

namespace vattn::test {

struct worker_spaces {
  std::vector<workspace> of = std::vector<workspace>(4);
  static workspace& at(void* self, int worker) noexcept {
    return static_cast<worker_spaces*>(self)->of[static_cast<std::size_t>(worker)];
  }
};

}  // namespace vattn::test
