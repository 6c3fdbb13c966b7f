// Who the person at this phone is: kept in this browser only.

const KEY = "phone.people";
export const NAMES = ["Nguyễn Văn An", "Trần Thị Bích", "Lê Minh Châu", "Phạm Quốc Dũng", "Huỳnh Thị Giang", "Võ Thanh Hải", "Đặng Ngọc Hân", "Bùi Văn Khoa"];

function newPerson(count) {
  const digits = String(crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000).padStart(6, "0");
  return { citizen: `phone-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`, name: NAMES[count % NAMES.length], phone: `0900${digits}` };
}

function read() {
  try {
    const stored = JSON.parse(localStorage.getItem(KEY));
    if (Array.isArray(stored?.people) && stored.people.length) return stored;
  } catch {
    // A private window or a damaged entry: start with a new person.
  }
  return { people: [], current: "" };
}

export class People {
  constructor(wanted, name) {
    this.state = read();
    if (wanted && wanted !== "new" && !this.state.people.some((person) => person.citizen === wanted)) {
      this.state.people.push({ citizen: wanted, name: name || wanted, phone: "" });
    }
    if (!this.state.people.length || wanted === "new") this.add();
    // Another window of the same browser may be another person, so the address remembers who this one is.
    this.current = wanted && wanted !== "new" ? wanted : wanted === "new" ? this.state.people.at(-1).citizen : this.state.current || this.state.people[0].citizen;
    this.save();
  }

  get all() { return this.state.people; }
  get me() { return this.state.people.find((person) => person.citizen === this.current) ?? this.state.people[0]; }

  add() {
    const person = newPerson(this.state.people.length);
    this.state.people.push(person);
    return person;
  }

  choose(citizen) {
    this.current = citizen;
    this.save();
  }

  save() {
    this.state.current = this.current;
    try {
      localStorage.setItem(KEY, JSON.stringify(this.state));
    } catch {
      // Without storage the person lasts as long as the page.
    }
  }
}
