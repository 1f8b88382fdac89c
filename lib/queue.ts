/** What can stand in a {@link Queue}: in one at a time. */
export interface Queued<Item> {
  isQueued: boolean;
  previous: Item | undefined;
  next: Item | undefined;
}

/**
 * First come, first served; anybody may leave from anywhere. Neither an array nor a Set, whose methods programs may have
 * replaced, and whose shortening costs more than an ioctl.
 */
export class Queue<Item extends Queued<Item>> {
  first: Item | undefined;
  length = 0;
  #last: Item | undefined;

  add(item: Item): void {
    item.previous = this.#last;
    if (this.#last === undefined) this.first = item;
    else this.#last.next = item;
    this.#last = item;
    item.isQueued = true;
    this.length++;
  }

  remove(item: Item): void {
    if (!item.isQueued) return;
    if (item.previous === undefined) this.first = item.next;
    else item.previous.next = item.next;
    if (item.next === undefined) this.#last = item.previous;
    else item.next.previous = item.previous;
    item.previous = undefined;
    item.next = undefined;
    item.isQueued = false;
    this.length--;
  }

  take(): Item | undefined {
    const { first } = this;
    if (first !== undefined) this.remove(first);
    return first;
  }
}
