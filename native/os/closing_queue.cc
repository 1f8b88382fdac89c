#include "os/closing_queue.h"

#include <algorithm>
#include <utility>

namespace dmabuf::os {

// Whether the sender has not used up its share of the threads.
bool ClosingQueue::MayRun(const std::shared_ptr<Sender>& sender) const {
  size_t of_sender = 0;
  size_t of_user = 0;
  for (const Running& running : running_) {
    if (running.sender == sender) of_sender++;
    if (running.sender && sender && running.sender->user == sender->user) of_user++;
  }
  if (running_.size() >= kForEverybody && of_sender > 0) return false;
  return !sender || (of_sender < kMostPerSender && of_user < kMostPerUser);
}

bool ClosingQueue::MayRun(dev_t device) const {
  const auto same = [device](const Running& running) { return running.device == device; };
  return device == 0 ||
         static_cast<size_t>(std::count_if(running_.begin(), running_.end(), same)) < kMostPerDevice;
}

void ClosingQueue::Judge(Sender& sender) const {
  const size_t most = size_ > kMostWaiting ? kMostWaitingBeyond : kMostWaitingOfOne;
  const bool crowded = sender.waiting > most;
  if (sender.crowded.load(std::memory_order_relaxed) != crowded) sender.crowded = crowded;
}

void ClosingQueue::JudgeAll() const {
  for (const Line& line : lines_) {
    if (line.sender) Judge(*line.sender);
  }
}

bool ClosingQueue::Add(ClosingTask&& task) {
  const bool may_run = MayRun(task.sender) && MayRun(task.device);
  const auto [place, is_new] = by_sender_.try_emplace(task.sender.get());
  if (is_new) place->second = lines_.insert(lines_.end(), Line{task.sender, {}, {}});
  Line& line = *place->second;
  const auto [lane, is_new_lane] = line.by_device.try_emplace(task.device);
  if (is_new_lane) lane->second = line.lanes.insert(line.lanes.end(), Lane{task.device, {}});
  if (++size_ == kMostWaiting + 1) JudgeAll();
  if (task.sender) {
    task.sender->waiting++;
    Judge(*task.sender);
  }
  lane->second->tasks.push_back(std::move(task));
  return may_run;
}

// A task of the lane was removed.
void ClosingQueue::Forget(std::list<Line>::iterator line, std::list<Lane>::iterator lane, Sender* sender) {
  if (lane->tasks.empty()) {
    line->by_device.erase(lane->device);
    line->lanes.erase(lane);
  }
  if (line->lanes.empty()) {
    by_sender_.erase(sender);
    lines_.erase(line);
  }
  if (size_-- == kMostWaiting + 1) JudgeAll();
  if (sender == nullptr) return;
  sender->waiting--;
  Judge(*sender);
}

bool ClosingQueue::Withdraw(const std::shared_ptr<Discarding>& discarding) {
  const auto line = by_sender_.find(discarding->sender.get());
  if (line == by_sender_.end()) return false;
  std::list<Lane>& lanes = line->second->lanes;
  for (auto lane = lanes.begin(); lane != lanes.end(); ++lane) {
    const auto same = [&discarding](const ClosingTask& task) { return task.discarding == discarding; };
    const auto task = std::find_if(lane->tasks.begin(), lane->tasks.end(), same);
    if (task == lane->tasks.end()) continue;
    lane->tasks.erase(task);
    Forget(line->second, lane, discarding->sender.get());
    return true;
  }
  return false;
}

bool ClosingQueue::HasNext() const {
  return std::any_of(lines_.begin(), lines_.end(), [this](const Line& line) {
    return MayRun(line.sender) && std::any_of(line.lanes.begin(), line.lanes.end(),
                                              [this](const Lane& lane) { return MayRun(lane.device); });
  });
}

// The one whose turn it was becomes the last.
std::optional<ClosingTask> ClosingQueue::Take() {
  for (auto line = lines_.begin(); line != lines_.end(); ++line) {
    if (!MayRun(line->sender)) continue;
    const auto may_run = [this](const Lane& lane) { return MayRun(lane.device); };
    const auto lane = std::find_if(line->lanes.begin(), line->lanes.end(), may_run);
    if (lane == line->lanes.end()) continue;
    ClosingTask task = std::move(lane->tasks.front());
    lane->tasks.pop_front();
    line->lanes.splice(line->lanes.end(), line->lanes, lane);
    lines_.splice(lines_.end(), lines_, line);
    Forget(line, lane, task.sender.get());
    running_.push_back({task.device, task.sender});
    return task;
  }
  return std::nullopt;
}

void ClosingQueue::Finish(const ClosingTask& task) {
  const auto same = [&task](const Running& running) {
    return running.device == task.device && running.sender == task.sender;
  };
  running_.erase(std::find_if(running_.begin(), running_.end(), same));
}

}  // namespace dmabuf::os
