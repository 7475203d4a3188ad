package farcall

// itemQuantum is the number of bytes of items that a stream may send in each of its turns.
const itemQuantum = 16 << 10

// schedule is the order in which streams send their items: deficit round robin (Shreedhar and
// Varghese, 1995), so that they share a connection by bytes.
type schedule struct {
	turns  []*streamCall // each stream once
	inTurn bool
}

// add adds a stream that has an item, behind the others; nothing if it is there already.
func (s *schedule) add(call *streamCall) {
	if !call.scheduled {
		call.scheduled, call.deficit = true, 0
		s.turns = append(s.turns, call)
	}
}

// next returns the stream that sends its next item, or nil if there is none, or none that fits into room bytes.
func (s *schedule) next(room uint64) *streamCall {
	for len(s.turns) > 0 {
		call := s.turns[0]
		if len(call.queue) == 0 {
			call.scheduled = false
			s.turns = s.turns[1:]
			s.inTurn = false
			continue
		}
		cost := itemCost(call.queue[0].body)
		if !s.inTurn {
			call.deficit += itemQuantum
			s.inTurn = true
		}
		// Alone, a stream need not save up for a large item.
		if call.deficit >= cost || len(s.turns) == 1 {
			if cost > room {
				return nil
			}
			if call.deficit -= cost; call.deficit > 1<<62 { // below zero
				call.deficit = 0
			}
			return call
		}
		s.turns = append(s.turns[1:], call)
		s.inTurn = false
	}
	s.turns = nil
	return nil
}
