// Package farcall calls the methods of a farcall server.
//
//	client, err := farcall.Dial(ctx, "tcp@127.0.0.1:7001", nil)
//	if err != nil {
//		return err
//	}
//	defer client.Close(ctx)
//	var product int64
//	err = client.Call(ctx, "Arith.multiply", Factors{A: 6, B: 7}, &product)
//
// Any number of goroutines may use one [Client]: calls share a connection and are answered in
// any order. The deadline of a context travels to the server, and a cancelled context stops the
// method there. A failed call returns an [*Error], which says whether the method may have run.
//
// [Receive], [Send] and [Exchange] call methods that send items, take items, or both.
//
// Values are encoded with encoding/json. The package needs the standard library only.
package farcall
