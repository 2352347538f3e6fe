// The C face of the library: what ctypes calls. Every function that can fail returns 0, or writes why and returns -1.
#include <chrono>
#include <cstdio>
#include <exception>

#include "kv_convert.h"
#include "pack.h"
#include "step.h"

using namespace trimtab;

namespace {

thread_local char last_error[256] = "";

template <typename Work>
int guarded(Work&& work) {
  try {
    work();
    return 0;
  } catch (const std::exception& error) {
    std::snprintf(last_error, sizeof last_error, "%s", error.what());
    return -1;
  }
}

const CpuFeatures& cpu() {
  static const CpuFeatures found = detect_cpu();
  return found;
}

struct Engine {
  Engine(int threads, bool amx, float walk_above) : forward(threads, amx, walk_above), packers(threads) {}
  Forward forward;
  Team packers;
};

}  // namespace

extern "C" {

struct LinearArgs {
  int64_t quantized, inputs, outputs;
  const void *weights, *low, *factor, *zero, *column, *bias;
};

struct LayerArgs {
  const float *attention_norm, *mlp_norm, *attention_out_norm, *mlp_out_norm, *q_norm, *k_norm, *turns;
  int64_t window;
  LinearArgs qkv, output, gate_up, down;
  const float* norms[4];
};

struct ModelArgs {
  int64_t hidden, heads, key_heads, dim, middle, vocabulary, num_layers, gelu;
  double eps, attention_scale, embedding_scale;
  const float* norm;
  const uint16_t* embedding;
  LinearArgs head;
  const LayerArgs* layers;
};

const char* tt_last_error() { return last_error; }

// Bit 0: AVX-512 with VNNI, without which nothing here may be called. Bit 1: AMX.
int tt_features() { return (cpu().avx512 ? 1 : 0) | (cpu().amx ? 2 : 0); }

// walk_above: see ActiveList; below 0 as this processor needs it.
void* tt_engine_new(int threads, int use_amx, double walk_above) {
  void* engine = nullptr;
  const float above = walk_above < 0 ? cpu().walk_above : static_cast<float>(walk_above);
  guarded([&] { engine = new Engine(threads, use_amx && cpu().amx, above); });
  return engine;
}

void tt_engine_free(void* engine) { delete static_cast<Engine*>(engine); }

// Binds each thread but the caller's to a CPU; the number of those that the system let be bound.
int tt_engine_pin(void* engine, const int* cpus, int count) { return static_cast<Engine*>(engine)->forward.pin(cpus, count); }

static Linear linear(const LinearArgs& args) {
  Linear made;
  made.quantized = args.quantized != 0;
  made.bias = static_cast<const float*>(args.bias);
  if (made.quantized) {
    made.packed.inputs = static_cast<int>(args.inputs);
    made.packed.outputs = static_cast<int>(args.outputs);
    made.packed.high = static_cast<const uint8_t*>(args.weights);
    made.packed.low = static_cast<const uint8_t*>(args.low);
    made.packed.factor = static_cast<const uint8_t*>(args.factor);
    made.packed.zero = static_cast<const uint8_t*>(args.zero);
    made.packed.column = static_cast<const float*>(args.column);
  } else {
    made.exact.inputs = static_cast<int>(args.inputs);
    made.exact.outputs = static_cast<int>(args.outputs);
    made.exact.weights = static_cast<const bf16*>(args.weights);
  }
  return made;
}

void* tt_model_new(const ModelArgs* args) {
  void* result = nullptr;
  guarded([&] {
    auto model = std::make_unique<Model>();
    model->hidden = static_cast<int>(args->hidden);
    model->heads = static_cast<int>(args->heads);
    model->key_heads = static_cast<int>(args->key_heads);
    model->dim = static_cast<int>(args->dim);
    model->middle = static_cast<int>(args->middle);
    model->vocabulary = static_cast<int>(args->vocabulary);
    model->eps = static_cast<float>(args->eps);
    model->attention_scale = static_cast<float>(args->attention_scale);
    model->embedding_scale = static_cast<float>(args->embedding_scale);
    model->gelu = args->gelu != 0;
    model->norm = args->norm;
    model->embedding = args->embedding;
    model->head = linear(args->head);
    for (int64_t i = 0; i < args->num_layers; ++i) {
      const LayerArgs& from = args->layers[i];
      Layer layer;
      layer.attention_norm = from.attention_norm;
      layer.mlp_norm = from.mlp_norm;
      layer.attention_out_norm = from.attention_out_norm;
      layer.mlp_out_norm = from.mlp_out_norm;
      layer.turns = from.turns;
      layer.window = static_cast<int>(from.window);
      layer.q_norm = from.q_norm;
      layer.k_norm = from.k_norm;
      layer.qkv = linear(from.qkv);
      layer.output = linear(from.output);
      layer.gate_up = linear(from.gate_up);
      layer.down = linear(from.down);
      layer.output.split();
      layer.down.split();
      for (int site = 0; site < kSites; ++site) layer.norms[site] = from.norms[site];
      model->layers.push_back(layer);
    }
    result = model.release();
  });
  return result;
}

void tt_model_free(void* model) { delete static_cast<Model*>(model); }

int tt_step(void* engine, const void* model, const Step* step) {
  return guarded([&] { static_cast<Engine*>(engine)->forward.run(*static_cast<const Model*>(model), *step); });
}

int tt_convert_kv(void* engine, const KvConversion* conversion) {
  return guarded([&] { convert_kv(*conversion, static_cast<Engine*>(engine)->packers); });
}

int tt_pack_bf16(void* engine, const void* data, int wide, int inputs, int outputs, int places, const int32_t* order, uint16_t* out) {
  return guarded([&] {
    LinearBf16 shape;
    shape.inputs = inputs;
    shape.outputs = outputs;
    pack_bf16(Source{data, wide != 0, inputs, places, order}, shape, out, static_cast<Engine*>(engine)->packers);
  });
}

int tt_pack_q(void* engine, const void* data, int wide, int inputs, int outputs, int places, const int32_t* order, const PackedQ* out) {
  return guarded([&] {
    LinearQ shape;
    shape.inputs = inputs;
    shape.outputs = outputs;
    pack_q(Source{data, wide != 0, inputs, places, order}, shape, *out, static_cast<Engine*>(engine)->packers);
  });
}

}  // extern "C"
