// The rows of perf/micro.cpp as Go does them, in the same words: see perf/rows.hpp for the flags.
package main

import (
	"flag"
	"fmt"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

func nsEach(steps int, act func()) float64 {
	begin := time.Now()
	act()
	return float64(time.Since(begin).Nanoseconds()) / float64(steps)
}

func yieldAmong(goroutines int) float64 {
	const yields = 2_000_000
	return nsEach(yields, func() {
		var all sync.WaitGroup
		all.Add(goroutines)
		for n := 0; n < goroutines; n++ {
			go func() {
				for done := 0; done < yields/goroutines; done++ {
					runtime.Gosched()
				}
				all.Done()
			}()
		}
		all.Wait()
	})
}

func spawnAndJoinOneByOne() float64 {
	const goroutines = 200_000
	return nsEach(goroutines, func() {
		for n := 0; n < goroutines; n++ {
			var one sync.WaitGroup
			one.Add(1)
			go one.Done()
			one.Wait()
		}
	})
}

func spawnThenJoinAll(goroutines int) float64 {
	return nsEach(goroutines, func() {
		var all sync.WaitGroup
		all.Add(goroutines)
		for n := 0; n < goroutines; n++ {
			go all.Done()
		}
		all.Wait()
	})
}

// A round trip over two unbuffered channels.
func pingPong() float64 {
	const turns = 500_000
	there, back := make(chan int), make(chan int)
	go answer(turns, there, back)
	return nsEach(turns, func() {
		for n := 0; n < turns; n++ {
			there <- n
			<-back
		}
	})
}

func answer(turns int, there, back chan int) {
	for n := 0; n < turns; n++ {
		back <- <-there
	}
}

// One way, by two goroutines that are locked to a thread each. The threads are not bound to a CPU each: the
// scheduler of the kernel has two for them.
func handOver() float64 {
	const turns = 5_000
	there, back := make(chan int), make(chan int)
	var ns float64
	onTwoThreads(
		func() {
			ns = nsEach(2*turns, func() {
				for n := 0; n < turns; n++ {
					there <- n
					<-back
				}
			})
		},
		func() { answer(turns, there, back) })
	return ns
}

// One way, from before the send until the receiver runs: the median of the hand-overs of a round.
func wakeAsleep() float64 {
	const turns = 500
	const pause = 200 * time.Microsecond
	there, back := make(chan time.Time), make(chan int)
	taken := make([]float64, 0, turns)
	onTwoThreads(
		func() {
			for n := 0; n < turns; n++ {
				for begin := time.Now(); time.Since(begin) < pause; {
				}
				there <- time.Now()
				<-back
			}
		},
		func() {
			for n := 0; n < turns; n++ {
				sent := <-there
				taken = append(taken, float64(time.Since(sent).Nanoseconds()))
				back <- n
			}
		})
	sort.Float64s(taken)
	return taken[turns/2]
}

func onTwoThreads(first, second func()) {
	var both sync.WaitGroup
	var there atomic.Int32
	both.Add(2)
	for _, part := range []func(){first, second} {
		go func(part func()) {
			runtime.LockOSThread()
			for there.Add(1); there.Load() < 2; {
				runtime.Gosched()
			}
			part()
			both.Done()
		}(part)
	}
	both.Wait()
}

func main() {
	only := flag.String("only", "", "measure this row alone")
	rounds := flag.Int("rounds", 5, "measure each row so many times, after one that warms up")
	list := flag.Bool("list", false, "name the rows and measure none")
	flag.Parse()
	rows := []struct {
		name     string
		twoCpus  bool
		ofOneRun func() float64
	}{
		{"yield_2", false, func() float64 { return yieldAmong(2) }},
		{"yield_1000", false, func() float64 { return yieldAmong(1_000) }},
		{"yield_10000", false, func() float64 { return yieldAmong(10_000) }},
		{"spawn_join", false, spawnAndJoinOneByOne},
		{"spawn_10000", false, func() float64 { return spawnThenJoinAll(10_000) }},
		{"spawn_1000000", false, func() float64 { return spawnThenJoinAll(1_000_000) }},
		{"semaphore", false, pingPong},
		{"handover", true, handOver},
		{"wake_asleep", true, wakeAsleep},
	}
	for _, row := range rows {
		if *list {
			fmt.Println(row.name)
			continue
		}
		if *only != "" && *only != row.name || row.twoCpus && runtime.NumCPU() < 2 {
			continue
		}
		row.ofOneRun()
		for n := 0; n < *rounds; n++ {
			fmt.Printf("{\"program\": \"Go\", \"row\": \"%s\", \"ns\": %.2f}\n", row.name, row.ofOneRun())
		}
	}
}
