// expect: vattention: parallel/openmp.hpp wants OpenMP: compile with -fopenmp
// SPDX-License-Identifier: Apache-2.0
#include "vattention/parallel/openmp.hpp"

const vattn::parallel::openmp pool;
