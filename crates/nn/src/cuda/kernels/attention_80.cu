// Attention of 16-bit operands, heads of up to 80 columns.
#include "attention.cuh"

ATTENTION(80, bf16, bf16)
ATTENTION(80, f16, half_t)
