/** An item of a {@link Queue}; it can be in one queue at a time. */
export interface Queued<Item> {
  isQueued: boolean;
  previous: Item | undefined;
  next: Item | undefined;
}

/**
 * First in, first out; an item may be removed from any place. It is neither an array nor a Set: programs may have
 * replaced their methods, and to shorten them costs more than an ioctl.
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
