// Steady writes with the Go driver; see "Writer" in ../workload.md.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/mongo"
	"go.mongodb.org/mongo-driver/mongo/options"
)

func main() {
	ctx := context.Background()
	opts := options.Client().ApplyURI(os.Getenv("MONGODB_URI")).SetAppName("mongotap-test-go")
	client, err := mongo.Connect(ctx, opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var ended atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		ended.Store(true)
	}()
	collection := client.Database(os.Getenv("MONGOTAP_TEST_DB")).Collection("writes_go")
	for number := int64(0); !ended.Load(); number++ {
		began := time.Now()
		_, err := collection.InsertOne(ctx, bson.D{{"_id", number}})
		micros := time.Since(began).Microseconds()
		if err == nil {
			fmt.Printf("ok %d %d\n", number, micros)
		} else {
			fmt.Printf("failed %d %d %s\n", number, micros, strings.ReplaceAll(err.Error(), "\n", " "))
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := client.Disconnect(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
