// The threads that run a step together. Work is taken in small pieces, so that a thread that the system took its core from holds
// the others up by one piece, not by its share.
#pragma once
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "common.h"

namespace trimtab {

class Team {
 public:
  explicit Team(int size) : size_(size), lanes_(size) {
    for (int id = 1; id < size; ++id) threads_.emplace_back([this, id] { work(id); });
  }

  ~Team() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  int size() const { return size_; }

  // Binds thread i, but for the caller's, 0, to CPU i; how many the system let be bound. The others run wherever they may.
  int pin(const int* cpus, int count) {
    int bound = 0;
    for (int id = 1; id < std::min(size_, count); ++id) {
      cpu_set_t one;
      CPU_ZERO(&one);
      if (cpus[id] < 0 || cpus[id] >= CPU_SETSIZE) continue;
      CPU_SET(cpus[id], &one);
      bound += pthread_setaffinity_np(threads_[id - 1].native_handle(), sizeof one, &one) == 0;
    }
    return bound;
  }

  // Runs job(id) on every thread, the caller's among them, and returns when all are done.
  void run(const std::function<void(int)>& job) {
    job_ = &job;
    rewind();
    {
      std::lock_guard<std::mutex> lock(mutex_);
      generation_.fetch_add(1, std::memory_order_release);
    }
    if (size_ > 1) wake_.notify_all();
    job(0);
    barrier();
  }

  // Waits until every thread is here. Only from within a job.
  void barrier() {
    if (size_ == 1) {
      rewind();
      return;
    }
    const uint32_t round = round_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
      arrived_.store(0, std::memory_order_relaxed);
      rewind();
      round_.store(round + 1, std::memory_order_seq_cst);
      if (sleepers_.load(std::memory_order_seq_cst) > 0) futex(FUTEX_WAKE_PRIVATE, INT_MAX);
      return;
    }
    for (int spins = 0; spins < kSpins; ++spins) {
      if (round_.load(std::memory_order_acquire) != round) return;
      _mm_pause();
    }
    // Whoever is late may be waiting for a core. A thread that sleeps leaves it one; a thread that spins or yields does not.
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    while (round_.load(std::memory_order_seq_cst) == round) futex(FUTEX_WAIT_PRIVATE, round);
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
  }

  // The next piece out of `total` for thread `id`, or -1 when none is left in this phase. Each thread walks a range of its own, so
  // that it reads memory in order, and helps the others when it is through.
  int take(int id, int total) {
    for (int other = 0; other < size_; ++other) {
      const int owner = (id + other) % size_;
      const int begin = static_cast<int>(static_cast<int64_t>(total) * owner / size_);
      const int end = static_cast<int>(static_cast<int64_t>(total) * (owner + 1) / size_);
      const int piece = begin + lanes_[owner].next.fetch_add(1, std::memory_order_relaxed);
      if (piece < end) return piece;
    }
    return -1;
  }

 private:
  static constexpr int kSpins = 1500;      // pauses of some 40 cycles: longer than pieces differ, shorter than a turn of the scheduler
  static constexpr int kIdleSpins = 4000;  // between two steps, before a thread goes to sleep

  long futex(int operation, uint32_t value) {
    static_assert(sizeof(round_) == sizeof(uint32_t));
    return syscall(SYS_futex, reinterpret_cast<uint32_t*>(&round_), operation, value, nullptr, nullptr, 0);
  }

  struct alignas(64) Lane {
    std::atomic<int> next{0};
  };

  void rewind() {
    for (auto& lane : lanes_) lane.next.store(0, std::memory_order_relaxed);
  }

  void work(int id) {
    uint32_t seen = 0;
    while (true) {
      for (int spins = 0; spins < kIdleSpins && generation_.load(std::memory_order_acquire) == seen; ++spins) _mm_pause();
      if (generation_.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
      }
      seen = generation_.load(std::memory_order_acquire);
      if (stopping_) return;
      (*job_)(id);
      barrier();
    }
  }

  const int size_;
  std::vector<Lane> lanes_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<uint32_t> generation_{0};
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> round_{0};
  std::atomic<int> sleepers_{0};
  const std::function<void(int)>* job_ = nullptr;
  bool stopping_ = false;
};

}  // namespace trimtab
